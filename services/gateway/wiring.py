"""Builds the gateway from the configuration and serves HTTP."""

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
from warmtalk.services.gateway.app import create_app
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.registry import LiveStreamRegistry

log = logging.getLogger(__name__)

_SHUTDOWN_S = 5
_HEAD_TIMEOUT_S = 30.0
"""Period from the start of a connection to the end of the head of its first request."""
MAX_MESSAGE_BYTES = 1 << 20
"""Largest WebSocket message."""


class HeadTimeoutProtocol(H11Protocol):
    """Closes connections without a complete request head; uvicorn would keep such connections for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Starts the timeout of the request head."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_TIMEOUT_S, self._close_without_request)

    def _close_without_request(self) -> None:
        if self.cycle is None and self.transport.get_protocol() is self:  # WebSockets have another protocol by then
            self.transport.close()


class SignalFreeServer(uvicorn.Server):
    """Server without signal handlers of its own: uvicorn raises caught signals again after shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures nothing."""
        yield


class Gateway:
    """The gateway service. Bound at construction, so that a taken port is reported before anything starts."""

    def __init__(self, config: Config) -> None:
        """Needs a running event loop. Raises InvalidInput for a listen address beyond loopback without an API key, and
        OSError for a taken address.
        """
        host, port = _parse_listen(config.gateway.listen)
        check_listen("gateway", config.gateway.listen, config.api_key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise OSError(f"cannot listen on {config.gateway.listen}: {error.strerror or error}") from error
        self.address = f"{config.gateway.listen.rpartition(':')[0]}:{self._socket.getsockname()[1]}"
        """Bound host:port."""
        self._backend = Backend(config)
        self._chat = ChatClient(config.gateway)
        self.streams = LiveStreamRegistry(self._backend, self._chat)
        self._server = SignalFreeServer(
            uvicorn.Config(
                create_app(config, self._backend, self.streams, self._chat),
                log_config=None,
                access_log=False,  # request lines contain the tokens of <video> and WebSocket URLs
                log_level="warning",
                lifespan="off",
                http=HeadTimeoutProtocol,
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE_BYTES,
                timeout_graceful_shutdown=_SHUTDOWN_S,
                server_header=False,
            )
        )

    async def serve(self) -> None:
        """Serves until `stop`, then ends live streams and closes connections."""
        log.info("gateway ready on http://%s", self.address)
        try:
            await self._server.serve([self._socket])
        finally:
            self._socket.close()
            await self.streams.close()
            await self._chat.close()
            await self._backend.close()

    def stop(self) -> None:
        """Asks `serve` to return."""
        self._server.should_exit = True


def _parse_listen(listen: str) -> tuple[str, int]:
    """Returns (host without brackets, port). Raises InvalidInput."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"gateway.listen is {listen!r}", "Use host:port", field="gateway.listen")
    return host.strip("[]"), int(port)


async def run(config: Config) -> None:
    """Runs the gateway until SIGTERM or SIGINT."""
    gateway = Gateway(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, gateway.stop)
    await gateway.serve()
