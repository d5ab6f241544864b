"""Builds the service out of its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.rpc.auth import check_listen
from warmtalk.services.gateway import app as application
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.registry import LiveStreamRegistry

log = logging.getLogger(__name__)

_GRACE_S = 5
_SILENCE_S = 30.0
"""From the start of a connection to the end of its first request's head."""
MOST_MESSAGE = 1 << 20
"""Largest WebSocket message, in bytes."""


class _Protocol(H11Protocol):
    """Closes a connection on which no whole request comes; uvicorn would keep it for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.loop.call_later(_SILENCE_S, self._check_asked)

    def _check_asked(self) -> None:
        if self.cycle is None and self.transport.get_protocol() is self:  # else it is a WebSocket by now
            self.transport.close()


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them again after it has stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gateway:
    """Bound at once, so that a taken address is seen before anything starts; `address` says where."""

    def __init__(self, config: Config) -> None:
        """Within a running event loop. Raises InvalidInput without a key beyond loopback, OSError when taken."""
        host, port = _place(config.gateway.listen)
        check_listen("gateway", config.gateway.listen, config.api_key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise OSError(f"cannot listen on {config.gateway.listen}: {error.strerror or error}") from error
        self.address = f"{config.gateway.listen.rpartition(':')[0]}:{self._socket.getsockname()[1]}"
        self._backend = Backend(config)
        self._partner = ChatClient(config.gateway)
        self._hub = LiveStreamRegistry(self._backend, self._partner)
        self._server = _Server(
            uvicorn.Config(
                application.create(config, self._backend, self._hub, self._partner),
                log_config=None,
                access_log=False,  # these lines would carry the tokens of <video> URLs and WebSockets
                log_level="warning",
                lifespan="off",
                http=_Protocol,
                ws="websockets-sansio",
                ws_max_size=MOST_MESSAGE,
                timeout_graceful_shutdown=_GRACE_S,
                server_header=False,
            )
        )

    async def serve(self) -> None:
        """Until `stop`."""
        log.info("gateway ready on http://%s", self.address)
        try:
            await self._server.serve([self._socket])
        finally:
            self._socket.close()
            await self._hub.close()
            await self._partner.close()
            await self._backend.close()

    def stop(self) -> None:
        self._server.should_exit = True


def _place(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"gateway.listen is {listen!r}", "Use host:port", field="gateway.listen")
    return host.strip("[]"), int(port)


async def run(config: Config) -> None:
    gateway = Gateway(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, gateway.stop)
    await gateway.serve()
