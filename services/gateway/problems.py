"""Errors as RFC 9457 problem documents, with the same reasons as over gRPC.

reason            status
INVALID_INPUT     400      UNAUTHENTICATED   401  no key, or a wrong one
BAD_MEDIA         422      FORBIDDEN         403  token of another session, page of another site
NOT_FOUND         404      TOO_LARGE         413
ALREADY_EXISTS    409      NOT_READY         409
INTERRUPTED       409      BUSY              429
STORAGE_FULL      507      UNREACHABLE       503
DAMAGED           500      INTERNAL          500
"""

from __future__ import annotations

import logging
import math
import uuid
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from warmtalk.core import errors
from warmtalk.core.errors import WarmtalkError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
"""Content type of every error response."""


class Forbidden(WarmtalkError):
    """The credentials are valid but do not open the route, or the request comes from another site."""

    reason = "FORBIDDEN"


class TooLarge(WarmtalkError):
    """The request body exceeds the limit of the route."""

    reason = "TOO_LARGE"


_STATUS: dict[str, int] = {
    errors.InvalidInput.reason: 400,
    errors.BadMedia.reason: 422,
    errors.NotFound.reason: 404,
    errors.AlreadyExists.reason: 409,
    errors.NotReady.reason: 409,
    errors.Interrupted.reason: 409,
    errors.Busy.reason: 429,
    errors.StorageFull.reason: 507,
    errors.Unreachable.reason: 503,
    errors.Unauthenticated.reason: 401,
    Forbidden.reason: 403,
    TooLarge.reason: 413,
}
_REASON_OF_STATUS = {404: "NOT_FOUND", 413: TooLarge.reason}
_RETRY_S = 2.0


def problem_body(error: WarmtalkError) -> dict[str, Any]:
    """Returns the problem document as a JSON object; also the payload of an `error` event."""
    body = _body(_STATUS.get(error.reason, 500), error.reason, error.message)
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, errors.InvalidInput) and error.field:
        body["field"] = error.field
    return body


def problem_response(error: WarmtalkError) -> JSONResponse:
    """Returns the error response with its status, Retry-After and WWW-Authenticate."""
    body = problem_body(error)
    headers = {}
    if isinstance(error, errors.Busy | errors.Unreachable):
        seconds = error.retry_after_s if isinstance(error, errors.Busy) else _RETRY_S
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], headers, media_type=MEDIA_TYPE)


def internal_error(error: Exception) -> WarmtalkError:
    """Logs an unexpected exception and returns an error with an incident id in place of the exception's text."""
    incident = uuid.uuid4().hex[:12]
    log.error("incident %s", incident, exc_info=error)
    return WarmtalkError(f"something went wrong in the gateway; its log has the cause under {incident}")


def install_handlers(app: FastAPI) -> None:
    """Registers handlers so that every error of every route becomes a problem document."""
    app.add_exception_handler(WarmtalkError, _handle_warmtalk_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)


async def _handle_warmtalk_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WarmtalkError)
    if error.reason == WarmtalkError.reason:
        log.error("%s: %s", request.url.path, error)
    return problem_response(error)


async def _handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    reason = _REASON_OF_STATUS.get(error.status_code, "INVALID_INPUT")
    body = _body(error.status_code, reason, str(error.detail))
    return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)


async def _handle_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    message = f"{field or 'the request'}: {first['msg']}"
    return problem_response(
        errors.InvalidInput(message, "The format of each request is documented at /docs", field=field)
    )


def _body(status: int, reason: str, detail: str) -> dict[str, Any]:
    problem_type = f"urn:warmtalk:{reason.lower().replace('_', '-')}"
    title = HTTPStatus(status).phrase
    return {"type": problem_type, "title": title, "status": status, "reason": reason, "detail": detail}
