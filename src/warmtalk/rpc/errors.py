"""Conversion of core errors to gRPC status with google.rpc details and back; one interceptor for every handler."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from warmtalk.core import errors

log = logging.getLogger(__name__)

DOMAIN = "warmtalk"
_INTERNAL_PREFIXES = re.compile(r"UNKNOWN: |ipv[46]:|Failed to connect to remote host: |\[field:.*\]")

_CODES: dict[type[errors.WarmtalkError], int] = {
    errors.InvalidInput: code_pb2.INVALID_ARGUMENT,
    errors.BadMedia: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.NotReady: code_pb2.FAILED_PRECONDITION,
    errors.Busy: code_pb2.RESOURCE_EXHAUSTED,
    errors.StorageFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.Interrupted: code_pb2.ABORTED,
    errors.Damaged: code_pb2.DATA_LOSS,
    errors.Unreachable: code_pb2.UNAVAILABLE,
}
_BY_REASON = {kind.reason: kind for kind in _CODES}


def to_status(error: errors.WarmtalkError) -> status_pb2.Status:
    """Returns a google.rpc.Status with ErrorInfo, plus BadRequest for a named field or RetryInfo for Busy."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata.update({"message": error.message, "hint": error.hint})
    details: list[Any] = [info]
    if isinstance(error, errors.InvalidInput) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Busy):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=_CODES[type(error)], message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def from_rpc(error: grpc.RpcError, service: str) -> errors.WarmtalkError:
    """Returns the core error that a service raised, from the client's RpcError.

    `service` names the service in messages, for example "infer". A rejected key becomes Unreachable, because the caller
    of the client may have presented the right key.
    """
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has the methods of Call
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in _BY_REASON:
            kind = _BY_REASON[info.reason]
            if kind is errors.Unauthenticated:
                hint = "Give every service and the command line the same api_key (WARMTALK_API_KEY)"
                return errors.Unreachable(f"the {service} service refuses us: {info.metadata['message']}", hint)
            return kind(info.metadata["message"], info.metadata["hint"])
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    text = error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else str(error)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.InvalidInput(f"the {service} service refused the message: {text}", "Send less at once")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
        return errors.Unreachable(
            f"the {service} service does not answer ({_plain(text)})", "Is it running? Start all with: warmtalk up"
        )
    return errors.WarmtalkError(f"the {service} service failed: {text}", "Read the log of the service")


def _plain(text: str | None) -> str:
    """Returns gRPC's reason for a lost connection without internal prefixes: "127.0.0.1:50053: Connection refused"."""
    return _INTERNAL_PREFIXES.sub("", (text or "no reason given").rpartition("last error: ")[2])


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Server interceptor that maps core errors to their status and every other error to INTERNAL with an incident id.

    The text of an unexpected error stays in the log. Handlers are coroutines (unary responses) or async generators
    (streamed responses), never write-style.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/warmtalk."):
            return handler
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream), **codec)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream), **codec)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(_unary(handler.stream_unary), **codec)
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), **codec)


def _unary(inner: Any) -> Any:
    async def handler(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await inner(request, context)
        except Exception as error:  # noqa: BLE001 - every error of a handler ends here
            await _abort(error, context)

    return handler


def _stream(inner: Any) -> Any:
    async def handler(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        responses = inner(request, context)
        try:
            async for response in responses:
                yield response
        except Exception as error:  # noqa: BLE001 - every error of a handler ends here
            await _abort(error, context)
        finally:
            await responses.aclose()

    return handler


async def _abort(error: Exception, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if isinstance(error, grpc.aio.AbortError | grpc.aio.UsageError | asyncio.CancelledError):
        raise error
    if type(error) in _CODES:
        assert isinstance(error, errors.WarmtalkError)
        expected = isinstance(error, errors.NotFound)  # clients probe for existence
        log.log(logging.DEBUG if expected else logging.INFO, "refused: %s", error)
        await context.abort_with_status(rpc_status.to_status(to_status(error)))
    incident = uuid.uuid4().hex[:12]
    log.error("incident %s", incident, exc_info=error)
    await context.abort(
        grpc.StatusCode.INTERNAL, f"something went wrong in the service; its log has the cause under {incident}"
    )
