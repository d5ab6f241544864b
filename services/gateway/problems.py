"""Our errors as RFC 9457 problems, with the same reasons as over gRPC.

reason            status
INVALID_INPUT     400      UNAUTHENTICATED   401  no key, or a wrong one
BAD_MEDIA         422      FORBIDDEN         403  another session's token, another site's page
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


class Forbidden(WarmtalkError):
    reason = "FORBIDDEN"


class TooLarge(WarmtalkError):
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


def problem(error: WarmtalkError) -> dict[str, Any]:
    """The problem as an object; also the `error` event of a stream."""
    status = _STATUS.get(error.reason, 500)
    found: dict[str, Any] = _problem(status, error.reason, error.message)
    if error.hint:
        found["hint"] = error.hint
    if isinstance(error, errors.InvalidInput) and error.field:
        found["field"] = error.field
    return found


def answer(error: WarmtalkError) -> JSONResponse:
    body = problem(error)
    headers = {}
    if isinstance(error, errors.Busy | errors.Unreachable):
        seconds = error.retry_after_s if isinstance(error, errors.Busy) else _RETRY_S
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, body["status"], headers, media_type=MEDIA_TYPE)


def unexpected(error: Exception) -> WarmtalkError:
    """A bug: the caller sees an id, the text stays in the log."""
    incident = uuid.uuid4().hex[:12]
    log.error("incident %s", incident, exc_info=error)
    return WarmtalkError(f"something went wrong in the gateway; its log has the cause under {incident}")


def install(app: FastAPI) -> None:
    """Every error of every route ends here."""
    app.add_exception_handler(WarmtalkError, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WarmtalkError)
    if error.reason == WarmtalkError.reason:
        log.error("%s: %s", request.url.path, error)
    return answer(error)


async def _framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    reason = _REASON_OF_STATUS.get(error.status_code, "INVALID_INPUT")
    body = _problem(error.status_code, reason, str(error.detail))
    return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return answer(errors.InvalidInput(f"{field or 'the request'}: {first['msg']}", "See /docs", field=field))


def _problem(status: int, reason: str, detail: str) -> dict[str, Any]:
    kind = reason.lower().replace("_", "-")
    title = HTTPStatus(status).phrase
    return {"type": f"urn:warmtalk:{kind}", "title": title, "status": status, "reason": reason, "detail": detail}
