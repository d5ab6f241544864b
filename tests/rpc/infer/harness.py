"""Test harness of the infer service: a real server, a client, a real avatar, real frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from warmtalk.config import Config, InferConfig
from warmtalk.core.types import Patch, Samples
from warmtalk.rpc import convert
from warmtalk.rpc.client import channel
from warmtalk.services.infer.engine import Engine
from warmtalk.services.infer.wiring import build
from warmtalk.v1.infer_pb2 import (
    AudioPiece,
    EndOfAudio,
    GetCapacityRequest,
    GetCapacityResponse,
    RenderConfig,
    RenderRequest,
    RenderResponse,
)
from warmtalk.v1.infer_pb2_grpc import InferServiceStub

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.infer_pb2_grpc import InferServiceAsyncStub

END = RenderRequest(end=EndOfAudio())
LATENCY_FRAMES = 6
"""Most frames waiting for later audio: 200 ms of lookahead, and the current frame."""


class Infer:
    """A running service and a client of it."""

    def __init__(self, stub: InferServiceAsyncStub, engine: Engine) -> None:
        self.stub = stub
        self.engine = engine

    async def answers(self, *requests: RenderRequest) -> list[RenderResponse]:
        """Sends the first request, waits for the first response, then sends the others. Returns all responses.

        A grpc.aio client that writes while the server refuses the call would not receive the reason.
        """
        started = asyncio.Event()

        async def paced() -> AsyncIterator[RenderRequest]:
            for number, request in enumerate(requests):
                if number == 1:
                    await started.wait()
                yield request

        got = []
        async for answer in self.stub.Render(paced()):
            got.append(answer)
            started.set()
        return got

    async def patches(self, *requests: RenderRequest) -> list[Patch]:
        """Returns the patches of all responses."""
        return [patch for answer in await self.answers(*requests) for patch in convert.patches(answer.batch)]

    async def capacity(self) -> GetCapacityResponse:
        return await self.stub.GetCapacity(GetCapacityRequest())


async def running(data_dir: Path, **settings: int) -> AsyncIterator[Infer]:
    """Runs a service with `settings` of InferConfig."""
    config = Config(data_dir=data_dir, infer=replace(InferConfig(listen="127.0.0.1:0"), **settings))
    server, engine = build(config)
    await server.start()
    async with channel(server.address) as link:
        yield Infer(InferServiceStub(link), engine)
    await server.stop(0)
    await engine.close()


def start(**fields: object) -> RenderRequest:
    """Returns the first request: the config for avatar "eileen", with `fields` replaced."""
    return RenderRequest(config=RenderConfig(**{"avatar_id": "eileen", "initial_credit_frames": 256, **fields}))  # type: ignore[arg-type]


def audio(samples: Samples) -> RenderRequest:
    return RenderRequest(audio=AudioPiece(samples_f32le=convert.samples_bytes(samples)))


async def refused(infer: Infer, *requests: RenderRequest) -> grpc.aio.AioRpcError:
    """Returns the error of a call, which must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer.patches(*requests)
    return caught.value


async def all_free(infer: Infer) -> None:
    """Waits until no stream is open."""
    async with asyncio.timeout(5):
        while infer.engine.open_streams:
            await asyncio.sleep(0.01)
