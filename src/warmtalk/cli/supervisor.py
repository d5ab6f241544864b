"""Supervisor of the services as child processes. The children stop when this process ends, even after kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warmtalk.config import Config
from warmtalk.core.errors import Unreachable, WarmtalkError
from warmtalk.rpc.auth import check_listen
from warmtalk.rpc.client import wait_ready

_READY_S = 900.0
"""Startup timeout of a service; long because infer measures a GPU and records CUDA graphs first. The end of a service
is noticed at once."""
_STOP_S = 10.0
"""Time between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """Name and address of one service."""

    name: str
    health_service: str
    """Service name of the gRPC health check; empty for the gateway, which serves HTTP."""
    address: str

    async def wait_ready(self, timeout_s: float) -> None:
        """Returns when the service is ready. Raises Unreachable after `timeout_s`."""
        if self.health_service:
            await wait_ready(self.address, self.health_service, timeout_s)
        else:
            await _wait_http(self.address, timeout_s)


def service_specs(config: Config) -> list[ServiceSpec]:
    """Returns the services in start order. The stop order is the reverse."""
    return [
        ServiceSpec("prep", "warmtalk.v1.PrepService", config.prep.listen),
        ServiceSpec("infer", "warmtalk.v1.InferService", config.infer.listen),
        ServiceSpec("session", "warmtalk.v1.SessionService", config.session.listen),
        ServiceSpec("gateway", "", config.gateway.listen),
    ]


class Supervisor:
    """Starts all services and waits until all are ready; stops all on exit. Use as an async context manager."""

    def __init__(
        self,
        config: Config,
        *,
        config_path: Path | None = None,
        environ: Mapping[str, str] | None = None,
        logs: Path | None = None,
    ) -> None:
        """`environ` adds variables for the children. `logs` receives one file per service (default: stderr)."""
        self._services = service_specs(config)
        self._api_key = config.api_key
        self._args = ["--config", str(config_path)] if config_path else []
        self._environ = {**os.environ, **(environ or {})}
        self._logs = logs
        self._children: dict[str, Process] = {}

    async def __aenter__(self) -> Supervisor:
        """Checks every address before the first start. Raises InvalidInput, Unreachable, WarmtalkError."""
        for service in self._services:
            check_listen(f"the {service.name} service", service.address, self._api_key)
        for service in self._services:
            _check_address_free(service)
        try:
            for service in self._services:
                self._children[service.name] = await self._spawn(service)
            await asyncio.gather(*(self._wait_started(service) for service in self._services))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in reversed(list(self._children)):
            await _stop(self._children.pop(name))

    async def wait(self) -> str:
        """Returns the name of the first service that ends without a stop request."""
        waits = {asyncio.create_task(child.wait()): name for name, child in self._children.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for task in waits:
                task.cancel()

    async def _spawn(self, service: ServiceSpec) -> Process:
        with open(self._logs / f"{service.name}.log", "wb") if self._logs else contextlib.nullcontext() as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P"),  # do not import modules from the current folder
                *("-m", f"warmtalk.services.{service.name}", "--until-eof", *self._args),
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _wait_started(self, service: ServiceSpec) -> None:
        ready = asyncio.create_task(service.wait_ready(_READY_S))
        ended = asyncio.create_task(self._children[service.name].wait())
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not ready.done():
            ready.cancel()
            raise WarmtalkError(f"the {service.name} service ended during the start{self._log_tail(service)}")
        ended.cancel()
        await ready

    def _log_tail(self, service: ServiceSpec) -> str:
        if not self._logs:
            return "; see the log lines above"
        lines = (self._logs / f"{service.name}.log").read_text("utf-8", "replace").strip().splitlines()
        return ": " + " / ".join(lines[-3:])


def _check_address_free(service: ServiceSpec) -> None:
    """Raises Unreachable when another process listens on the address."""
    host, _, port = service.address.rpartition(":")
    if service.address.startswith("unix:"):
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise Unreachable(
                f"the {service.name} service cannot listen on {service.address} ({error.strerror})",
                "Stop the program that uses the address, perhaps another warmtalk up, or choose another address: "
                f"WARMTALK_{service.name.upper()}_LISTEN",
            ) from error


async def _wait_http(address: str, timeout_s: float) -> None:
    """Returns when GET /health responds with status 200."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            if b" 200 " in await asyncio.wait_for(_status_line(host.strip("[]"), int(port)), 2.0):
                return
        if time.monotonic() > deadline:
            raise Unreachable(f"http://{address} was not ready after {timeout_s:.0f} s", "Read the log of the gateway")
        await asyncio.sleep(0.1)


async def _status_line(host: str, port: int) -> bytes:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a wildcard is no address to connect to
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return await reader.readline()
    finally:
        writer.close()


async def _stop(child: Process) -> None:
    if child.returncode is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), _STOP_S)
    except TimeoutError:
        child.kill()
        await child.wait()
