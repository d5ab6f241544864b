"""gRPC channels to the warmtalk services, and a wait until a service is ready."""

from __future__ import annotations

import asyncio
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmtalk.core.errors import Unreachable
from warmtalk.rpc.auth import KeyedChannel

_OPTIONS = [
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 1),
]


def channel(address: str, api_key: str = "") -> grpc.aio.Channel:
    """Returns a channel to `address` (host:port or unix:PATH) that adds the API key to every call.

    The channel connects on first use and reconnects after a loss. The channel belongs to the current event loop.
    """
    grpc_channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    return KeyedChannel(grpc_channel, api_key) if api_key else grpc_channel


async def wait_ready(address: str, service: str, timeout_s: float) -> None:
    """Waits until the health check reports SERVING; needs no key. Raises Unreachable after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    async with channel(address) as grpc_channel:
        stub = health_pb2_grpc.HealthStub(grpc_channel)
        while True:
            try:
                answer = await stub.Check(  # type: ignore[attr-defined]  # missing in the type stubs
                    health_pb2.HealthCheckRequest(service=service), timeout=2.0
                )
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{service} on {address} was not ready after {timeout_s:.0f} s", "Read the log of the service"
                )
            await asyncio.sleep(0.1)
