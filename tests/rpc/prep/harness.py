"""Harness of the prep tests: a running service with a client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from warmtalk.config import Config, PrepConfig
from warmtalk.core.bundle import Bundle
from warmtalk.rpc.client import channel
from warmtalk.services.prep.jobs import BuildJobs
from warmtalk.services.prep.wiring import build
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.prep_pb2 import (
    Avatar,
    AvatarParams,
    CreateAvatarRequest,
    DeleteAvatarRequest,
    GetAvatarRequest,
    GetReportRequest,
    UploadHeader,
    UploadSourceRequest,
    UploadSourceResponse,
    WatchAvatarRequest,
)
from warmtalk.v1.prep_pb2_grpc import PrepServiceStub

if TYPE_CHECKING:  # the class exists in the stub file only
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub


LONG_FRAMES = 170
"""Frames of the long video: three complete segments and a part of a fourth."""
SHORT_PARAMS = AvatarParams(still_seconds=1.0, frame_rate=FrameRate(numerator=10))


class PrepHarness:
    """A running service with a client."""

    def __init__(self, stub: PrepServiceAsyncStub, jobs: BuildJobs, config: Config) -> None:
        self.stub = stub
        self.jobs = jobs
        self.config = config

    async def upload(self, content: bytes, name: str = "me.mp4", size_bytes: int = 0) -> UploadSourceResponse:
        return await self.stub.UploadSource(upload_chunks(content, name, size_bytes))

    async def create(
        self,
        avatar_id: str,
        content: bytes,
        params: AvatarParams = SHORT_PARAMS,
        *,
        name: str = "me.mp4",
        replace: bool = False,
    ) -> Avatar:
        upload = await self.upload(content, name)
        request = CreateAvatarRequest(avatar_id=avatar_id, upload_id=upload.upload_id, params=params, replace=replace)
        return (await self.stub.CreateAvatar(request)).avatar

    async def watch(self, avatar_id: str) -> list[Avatar]:
        return [answer.avatar async for answer in self.stub.WatchAvatar(WatchAvatarRequest(avatar_id=avatar_id))]

    async def build(
        self, avatar_id: str, content: bytes, params: AvatarParams = SHORT_PARAMS, name: str = "me.mp4"
    ) -> Avatar:
        await self.create(avatar_id, content, params, name=name)
        return (await self.watch(avatar_id))[-1]

    async def get(self, avatar_id: str) -> Avatar:
        return (await self.stub.GetAvatar(GetAvatarRequest(avatar_id=avatar_id))).avatar

    async def file(self, avatar_id: str, file: GetReportRequest.File.ValueType) -> bytes:
        chunks = self.stub.GetReport(GetReportRequest(avatar_id=avatar_id, file=file))
        return b"".join([chunk.data async for chunk in chunks])

    async def delete(self, avatar_id: str) -> None:
        await self.stub.DeleteAvatar(DeleteAvatarRequest(avatar_id=avatar_id))

    def bundle(self, avatar_id: str) -> Bundle:
        return Bundle(self.config.avatars_dir / avatar_id)

    def unfinished(self) -> list[str]:
        """Returns the names in the folder of unfinished builds."""
        folder = self.config.avatars_dir / ".building"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def upload_chunks(content: bytes, name: str, size_bytes: int = 0) -> AsyncIterator[UploadSourceRequest]:
    """Yields the messages of an upload."""
    yield UploadSourceRequest(header=UploadHeader(file_name=name, size_bytes=size_bytes))
    for start in range(0, len(content), 100_000):
        yield UploadSourceRequest(data=content[start : start + 100_000])


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[PrepHarness]:
    """Starts a service with this configuration and stops the service at the end of the block."""
    server, jobs = build(config)
    jobs.start()
    await server.start()
    async with channel(server.address) as link:
        yield PrepHarness(PrepServiceStub(link), jobs, config)
    await server.stop(0)
    await asyncio.to_thread(jobs.close)


def prep_config(tmp_path: Path, **changes: object) -> Config:
    """Returns a configuration in `tmp_path`, with `changes` to the section prep."""
    config = Config(data_dir=tmp_path / "data", prep=PrepConfig(listen="127.0.0.1:0", max_upload_mb=4))
    return replace(config, prep=replace(config.prep, **changes))  # type: ignore[arg-type]


def assert_rejected(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError], code: grpc.StatusCode, *words: str) -> None:
    """Asserts the status code, and that the details contain all `words`."""
    assert caught.value.code() is code
    for word in words:
        assert word in (caught.value.details() or "")


INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def wait_until(done: object, timeout_s: float = 60.0) -> None:
    """Polls until `done()` is true; fails after `timeout_s`."""
    assert callable(done)
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
