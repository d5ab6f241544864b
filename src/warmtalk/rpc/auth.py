"""API key of all servers: sent by clients, checked by servers, optional on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_status import rpc_status

from warmtalk.core.errors import InvalidInput, Unauthenticated
from warmtalk.rpc.errors import to_status

HEADER = "x-internal-api-key"
"""HTTP header and gRPC metadata key. `authorization: Bearer KEY` is accepted too."""


_DRAIN_S, _DRAIN_PAUSE_S = 2.0, 0.1
"""Longest drain of a rejected client's stream, and the pause that ends the drain. The client then receives the status
instead of a write error."""


def presented_keys(headers: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """Returns every key in `headers` (HTTP headers or gRPC metadata, names in lower case)."""
    keys = []
    for name, value in headers:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        scheme, _, bearer = text.partition(" ")
        if name == HEADER:
            keys.append(text)
        elif name == "authorization" and scheme.lower() == "bearer":
            keys.append(bearer.strip())
    return keys


def keys_match(text: str, api_key: str) -> bool:
    """Returns True for the right key. Constant time for texts of one length."""
    return hmac.compare_digest(text.encode(), api_key.encode())


def check_listen(server: str, listen: str, api_key: str) -> None:
    """Raises InvalidInput for a server without a key on an address other than loopback.

    `listen` is host:port or unix:PATH; `server` names the server in the message.
    """
    if api_key or listen.startswith("unix:") or _loopback(listen.rpartition(":")[0].strip("[]")):
        return
    raise InvalidInput(
        f"{server} would listen on {listen} and there is no API key",
        "Set api_key (WARMTALK_API_KEY), or listen on 127.0.0.1",
        field="api_key",
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Server interceptor that rejects every call without the key before the request is read.

    Health checks stay open, because containers and load balancers hold no key.
    """

    def __init__(self, api_key: str) -> None:
        self._key = api_key

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/"):
            return await continuation(handler_call_details)
        keys = presented_keys(handler_call_details.invocation_metadata)
        if any(keys_match(one, self._key) for one in keys):
            return await continuation(handler_call_details)
        # all call types are the same on the wire; a stream handler can answer without a request
        return grpc.stream_stream_rpc_method_handler(functools.partial(_reject, wrong=bool(keys)))


async def _reject(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any], *, wrong: bool) -> None:
    await _drain(requests)  # a grpc.aio client that writes while its call ends loses the status
    error = Unauthenticated(
        "the API key is wrong" if wrong else "this needs the API key",
        f"Send it as metadata {HEADER} or authorization: Bearer; our own programs take it from WARMTALK_API_KEY",
    )
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


async def _drain(requests: AsyncIterator[bytes]) -> None:
    end = time.monotonic() + _DRAIN_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < end:
            async with asyncio.timeout(_DRAIN_PAUSE_S):
                if await anext(requests, None) is None:
                    return


class KeyedChannel(grpc.aio.Channel):
    """gRPC channel that adds the API key to the metadata of every call.

    Not a grpc.aio interceptor: interceptors pass each written message through a queue and another task.
    """

    def __init__(self, inner: grpc.aio.Channel, api_key: str) -> None:
        self._inner = inner
        self._metadata = ((HEADER, api_key),)

    def unary_unary(self, *args: Any, **more: Any) -> Any:
        return self._with_key(self._inner.unary_unary(*args, **more))

    def unary_stream(self, *args: Any, **more: Any) -> Any:
        return self._with_key(self._inner.unary_stream(*args, **more))

    def stream_unary(self, *args: Any, **more: Any) -> Any:
        return self._with_key(self._inner.stream_unary(*args, **more))

    def stream_stream(self, *args: Any, **more: Any) -> Any:
        return self._with_key(self._inner.stream_stream(*args, **more))

    async def __aenter__(self) -> KeyedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def _with_key(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(call, metadata=self._metadata)
