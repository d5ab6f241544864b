"""The services as child processes of this one. They stop when it is gone, even if it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
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
from warmtalk.rpc.client import wait_ready

_READY_S = 900.0
"""A GPU is measured and its graphs are recorded first; a service that ends is noticed at once."""
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    service: str
    """Of its gRPC health; empty for the gateway, which speaks HTTP."""
    address: str

    async def wait_ready(self, timeout_s: float) -> None:
        """Raises Unreachable after `timeout_s`."""
        if self.service:
            await wait_ready(self.address, self.service, timeout_s)
        else:
            await _wait_http(self.address, timeout_s)


def programs(config: Config) -> list[Program]:
    """In the order of their start; they stop in the reverse order."""
    return [
        Program("prep", "warmtalk.v1.PrepService", config.prep.listen),
        Program("infer", "warmtalk.v1.InferService", config.infer.listen),
        Program("session", "warmtalk.v1.SessionService", config.session.listen),
        Program("gateway", "", config.gateway.listen),
    ]


class Supervisor:
    """Starts all, waits until all are ready, stops all."""

    def __init__(
        self,
        config: Config,
        *,
        config_path: Path | None = None,
        environ: Mapping[str, str] | None = None,
        logs: Path | None = None,
    ) -> None:
        """`environ` is added to ours for the children; `logs` gets a file a service (default: our stderr)."""
        self._programs = programs(config)
        self._args = ["--config", str(config_path)] if config_path else []
        self._environ = {**os.environ, **(environ or {})}
        self._logs = logs
        self._children: dict[str, Process] = {}

    async def __aenter__(self) -> Supervisor:
        try:
            for program in self._programs:
                self._check_free(program)
                self._children[program.name] = await self._spawn(program)
            await asyncio.gather(*(self._ready(program) for program in self._programs))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in reversed(list(self._children)):
            await _stop(self._children.pop(name))

    async def wait(self) -> str:
        """Name of the first service that ends by itself."""
        waits = {asyncio.create_task(child.wait()): name for name, child in self._children.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for task in waits:
                task.cancel()

    async def _spawn(self, program: Program) -> Process:
        with open(self._logs / f"{program.name}.log", "wb") if self._logs else contextlib.nullcontext() as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P"),  # whatever `services` lies here is not ours
                *("-m", f"warmtalk.services.{program.name}", "--until-eof", *self._args),
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _ready(self, program: Program) -> None:
        ready = asyncio.create_task(program.wait_ready(_READY_S))
        ended = asyncio.create_task(self._children[program.name].wait())
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not ready.done():
            ready.cancel()
            raise WarmtalkError(f"the {program.name} service ended at once{self._last_words(program)}")
        ended.cancel()
        await ready

    def _last_words(self, program: Program) -> str:
        if not self._logs:
            return "; see its message above"
        lines = (self._logs / f"{program.name}.log").read_text("utf-8", "replace").strip().splitlines()
        return ": " + " / ".join(lines[-3:])

    def _check_free(self, program: Program) -> None:
        host, _, port = program.address.rpartition(":")
        if program.address.startswith("unix:"):
            return
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                raise Unreachable(
                    f"the {program.name} service cannot listen on {program.address} ({error.strerror})",
                    f"Is warmtalk up already? Else choose another address: WARMTALK_{program.name.upper()}_LISTEN",
                ) from error


async def _wait_http(address: str, timeout_s: float) -> None:
    """Returns when GET /health says 200."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            if b" 200 " in await asyncio.wait_for(_status_line(host.strip("[]"), int(port)), 2.0):
                return
        if time.monotonic() > deadline:
            raise Unreachable(f"http://{address} was not ready after {timeout_s:.0f} s", "Its log says why")
        await asyncio.sleep(0.1)


async def _status_line(host: str, port: int) -> bytes:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listening everywhere is not a place
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


def found(config: Config) -> dict[str, str]:
    """Variables that lead the services to each other: who looks at a default address, where nobody listens any more,
    is shown the configured one. An address that was set by itself, as of an infer on another machine, stays.
    """
    plain = Config()
    environ = {}
    for seeker, section in (("session", "infer"), ("gateway", "prep"), ("gateway", "infer"), ("gateway", "session")):
        listen, default = (getattr(one, section).listen for one in (config, plain))
        if getattr(getattr(config, seeker), section) == default != listen:
            environ[f"WARMTALK_{seeker}_{section}".upper()] = listen
    return environ


def own_place(config: Config, data_dir: Path) -> tuple[Config, dict[str, str]]:
    """The same with free ports and this folder, and the variables that tell the children so."""
    prep, infer, session, gateway = (f"127.0.0.1:{port}" for port in _free_ports(4))
    changed = dataclasses.replace(
        config,
        data_dir=data_dir,
        prep=dataclasses.replace(config.prep, listen=prep),
        infer=dataclasses.replace(config.infer, listen=infer),
        session=dataclasses.replace(config.session, listen=session, infer=infer),
        gateway=dataclasses.replace(config.gateway, listen=gateway, prep=prep, infer=infer, session=session),
    )
    environ = {
        "WARMTALK_DATA_DIR": str(changed.data_dir),
        "WARMTALK_PREP_LISTEN": prep,
        "WARMTALK_INFER_LISTEN": infer,
        "WARMTALK_SESSION_LISTEN": session,
        "WARMTALK_SESSION_INFER": infer,
        "WARMTALK_GATEWAY_LISTEN": gateway,
        "WARMTALK_GATEWAY_PREP": prep,
        "WARMTALK_GATEWAY_INFER": infer,
        "WARMTALK_GATEWAY_SESSION": session,
    }
    return changed, environ


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
