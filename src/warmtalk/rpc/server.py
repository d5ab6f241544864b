"""Life cycle of a gRPC server: start, warm up, serve, drain on SIGTERM or Ctrl-C, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from warmtalk.rpc.auth import KeyInterceptor, check_listen
from warmtalk.rpc.errors import ErrorInterceptor

log = logging.getLogger(__name__)

MESSAGE_BYTES = 8 << 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """grpc.aio server with health, reflection, the error interceptor and the limits shared by all services.

    `listen` is host:port (port 0 takes a free port, see `address`) or unix:PATH. With an API key, every call except the
    health check must carry the key.
    """

    def __init__(self, listen: str, service: str, *, api_key: str = "", max_message_bytes: int = MESSAGE_BYTES) -> None:
        """Binds the address. `service` is the full name, for example "warmtalk.v1.PrepService".

        Raises InvalidInput for an address beyond loopback without a key, OSError when the address is taken.
        """
        check_listen(service, listen, api_key)
        self.service = service
        self.grpc = grpc.aio.server(
            interceptors=[*([KeyInterceptor(api_key)] if api_key else []), ErrorInterceptor()],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 20_000),  # detects clients that vanish without closing
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection([service, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc)
        try:
            port = self.grpc.add_insecure_port(listen)
        except RuntimeError as error:
            raise OSError(
                f"{service} cannot listen on {listen}: the address is taken or not of this machine"
            ) from error
        self.address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Starts to answer; health is NOT_SERVING until `ready`."""
        for name in ("", self.service):
            await self._health.set(name, NOT_SERVING)
        await self.grpc.start()

    async def ready(self) -> None:
        """Sets health to SERVING."""
        for name in ("", self.service):
            await self._health.set(name, SERVING)
        log.info("%s ready on %s", self.service, self.address)

    async def stop(self, grace_s: float) -> None:
        """Sets health to NOT_SERVING, gives running calls `grace_s` seconds, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)


def _freeze_garbage_collector() -> None:
    """Excludes all objects of the start from garbage collection, so that later collections are short and frequent.

    Frames of ended streams may wait for a collection.
    """
    gc.collect()
    gc.freeze()


async def serve(
    server: Server,
    *,
    warm_up: Callable[[], Awaitable[None]],
    close: Sequence[Callable[[], Awaitable[None]]] = (),
    grace_s: float = 5.0,
) -> None:
    """Runs until SIGTERM or SIGINT. The functions of `close` run in order after the last call has ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        await warm_up()
        _freeze_garbage_collector()
        await server.ready()
        await stop.wait()
        log.info("%s draining", server.service)
    finally:
        await server.stop(grace_s)
        for step in close:
            await step()
