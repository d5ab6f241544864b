"""A gateway in front of real prep and session services, all in this process; infer and the voice are fakes."""

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
    """The running services and an HTTP client of the gateway."""

    def __init__(
        self,
        config: Config,
        infer: FakeInfer,
        voice: FakeVoice,
        http: httpx.AsyncClient,
        session_service: session.SessionService,
        gateway: Gateway,
    ) -> None:
        self._gateway = gateway
        self.config = config
        self.infer = infer
        self.voice = voice
        self.http = http
        self.address = str(http.base_url).removeprefix("http://").rstrip("/")
        self._session_service = session_service

    def live_stream(self, session_id: str) -> Broadcast | None:
        """Returns the gateway's stream of a session while one runs."""
        return self._gateway.streams.running_stream(session_id)

    async def stop_session(self) -> None:
        """Stops the session service."""
        await self._session_service.server.stop(0)

    async def speak(self, text: str, session_id: str = "s1") -> httpx.Response:
        """Posts a text to /v1/speak; a new session gets the avatar ann."""
        return await self.http.post("/v1/speak", json={"text": text, "session_id": session_id, "avatar_id": "ann"})


@asynccontextmanager
async def running(folder: Path, api_key: str = "", **settings: object) -> AsyncIterator[GatewayHarness]:
    """Starts everything with data in `folder`. `settings` are keys of the gateway section; `api_key` is set for all
    services.
    """
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
        service = session.build(config, voice)
        await service.start()
        stack.push_async_callback(service.close)
        stack.push_async_callback(service.server.stop, 0)
        config = replace(config, gateway=_gateway(infer.address, server.address, service.server.address, settings))
        gateway = Gateway(config)
        serving = asyncio.create_task(gateway.serve())
        http = httpx.AsyncClient(base_url=f"http://{gateway.address}", timeout=30)
        stack.push_async_callback(_stop, gateway, serving, http)
        yield GatewayHarness(config, fake, voice, http, service, gateway)


def _gateway(infer: str, prep_: str, session_: str, settings: dict[str, object]) -> GatewayConfig:
    config = GatewayConfig(listen="127.0.0.1:0", infer=infer, prep=prep_, session=session_)
    return replace(config, **settings)  # type: ignore[arg-type]


async def _stop(gateway: Gateway, serving: asyncio.Task[None], http: httpx.AsyncClient) -> None:
    await http.aclose()
    gateway.stop()
    await serving
