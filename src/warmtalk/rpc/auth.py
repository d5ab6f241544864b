"""One API key for every server of ours: who shows it, who asks for it, and who may do without."""

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
"""Header of a request, metadata of a call. `authorization: Bearer KEY` does as well."""


_HEAR_OUT_S, _PAUSE_S = 2.0, 0.1
"""A client that is refused may finish what it is sending, unread: so long at most, and until it pauses."""


def presented_keys(headers: Iterable[tuple[str, str | bytes]]) -> list[str]:
    """What stands where a key is expected; names of headers or metadata in lower case."""
    found = []
    for name, value in headers:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        scheme, _, bearer = text.partition(" ")
        if name == HEADER:
            found.append(text)
        elif name == "authorization" and scheme.lower() == "bearer":
            found.append(bearer.strip())
    return found


def keys_match(text: str, api_key: str) -> bool:
    """In the same time for every text of a length."""
    return hmac.compare_digest(text.encode(), api_key.encode())


def check_listen(who: str, listen: str, api_key: str) -> None:
    """Raises InvalidInput when anybody on the network could call. `listen` is host:port or unix:PATH."""
    if api_key or listen.startswith("unix:") or _loopback(listen.rpartition(":")[0].strip("[]")):
        return
    raise InvalidInput(
        f"{who} would listen on {listen} and there is no API key",
        "Set api_key (WARMTALK_API_KEY), or listen on 127.0.0.1",
        field="api_key",
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls of every kind without the key, before anything of them is read. Health stays open: those who ask
    for it, as containers do, hold no key.
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
        given = presented_keys(handler_call_details.invocation_metadata)
        if any(keys_match(one, self._key) for one in given):
            return await continuation(handler_call_details)
        # on the wire all kinds of calls are the same; this kind needs no request to answer
        return grpc.stream_stream_rpc_method_handler(functools.partial(_refuse, wrong=bool(given)))


async def _refuse(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any], *, wrong: bool) -> None:
    await _hear_out(requests)  # a grpc.aio client that writes while its call ends does not see why
    error = Unauthenticated(
        "the API key is wrong" if wrong else "this needs the API key",
        f"Send it as metadata {HEADER} or authorization: Bearer; our own programs take it from WARMTALK_API_KEY",
    )
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


async def _hear_out(requests: AsyncIterator[bytes]) -> None:
    end = time.monotonic() + _HEAR_OUT_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < end:
            async with asyncio.timeout(_PAUSE_S):
                if await anext(requests, None) is None:
                    return


class KeyedChannel(grpc.aio.Channel):
    """A channel whose every call shows the key.

    Not an interceptor of grpc.aio: with one, what is written to a stream goes through a queue and another task.
    """

    def __init__(self, inner: grpc.aio.Channel, api_key: str) -> None:
        self._inner = inner
        self._metadata = ((HEADER, api_key),)

    def unary_unary(self, *args: Any, **more: Any) -> Any:
        return self._shown(self._inner.unary_unary(*args, **more))

    def unary_stream(self, *args: Any, **more: Any) -> Any:
        return self._shown(self._inner.unary_stream(*args, **more))

    def stream_unary(self, *args: Any, **more: Any) -> Any:
        return self._shown(self._inner.stream_unary(*args, **more))

    def stream_stream(self, *args: Any, **more: Any) -> Any:
        return self._shown(self._inner.stream_stream(*args, **more))

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

    def _shown(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(call, metadata=self._metadata)
