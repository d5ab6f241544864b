"""A gateway with real prep and session services behind it, all in this process; infer and voice are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from tests.fakes import FakeInfer, FakeVoice, make_avatar, serve_infer
from warmtalk.config import Config, GatewayConfig, PrepConfig, SessionConfig
from warmtalk.services.gateway.live.broadcast import Broadcast
from warmtalk.services.gateway.wiring import Gateway
from warmtalk.services.prep import wiring as prep
from warmtalk.services.session import wiring as session


class GatewayHarness:
    """What runs, and a client of it."""

    def __init__(
        self,
        config: Config,
        infer: FakeInfer,
        voice: FakeVoice,
        http: httpx.AsyncClient,
        parts: session.SessionService,
        gateway: Gateway,
    ) -> None:
        self._gateway = gateway
        self.config = config
        self.infer = infer
        self.voice = voice
        self.http = http
        self.address = str(http.base_url).removeprefix("http://").rstrip("/")
        self._parts = parts

    def live(self, session_id: str) -> Broadcast | None:
        """The gateway's stream of a session, while there is one that goes on."""
        found = self._gateway._hub._live.get(session_id)
        return found if found and found.ended is None else None

    async def stop_session(self) -> None:
        await self._parts.server.stop(0)

    async def say(self, text: str, session_id: str = "s1") -> httpx.Response:
        return await self.http.post("/v1/speak", json={"text": text, "session_id": session_id, "avatar_id": "ann"})


@asynccontextmanager
async def running(folder: Path, api_key: str = "", **settings: object) -> AsyncIterator[GatewayHarness]:
    """`settings` are keys of the gateway's section; the key is that of all services."""
    make_avatar(folder / "avatars")
    fake, voice = FakeInfer(), FakeVoice()
    async with AsyncExitStack() as stack:
        infer = await serve_infer(fake, api_key=api_key)
        stack.push_async_callback(infer.stop, 0)
        config = Config(
            data_dir=folder,
            api_key=api_key,
            prep=PrepConfig(listen="127.0.0.1:0", still_seconds=1.0, max_upload_mb=2),
            session=SessionConfig(listen="127.0.0.1:0", infer=infer.address, x264_preset="ultrafast"),
        )
        server, jobs = prep.build(config)
        jobs.start()
        await server.start()
        await server.ready()
        stack.callback(jobs.close)
        stack.push_async_callback(server.stop, 0)
        parts = session.build(config, voice)
        await parts.start()
        stack.push_async_callback(parts.close)
        stack.push_async_callback(parts.server.stop, 0)
        config = replace(config, gateway=_gateway(infer.address, server.address, parts.server.address, settings))
        gateway = Gateway(config)
        serving = asyncio.create_task(gateway.serve())
        http = httpx.AsyncClient(base_url=f"http://{gateway.address}", timeout=30)
        stack.push_async_callback(_stop, gateway, serving, http)
        yield GatewayHarness(config, fake, voice, http, parts, gateway)


def _gateway(infer: str, prep_: str, session_: str, settings: dict[str, object]) -> GatewayConfig:
    config = GatewayConfig(listen="127.0.0.1:0", infer=infer, prep=prep_, session=session_)
    return replace(config, **settings)  # type: ignore[arg-type]


async def _stop(gateway: Gateway, serving: asyncio.Task[None], http: httpx.AsyncClient) -> None:
    await http.aclose()
    gateway.stop()
    await serving
