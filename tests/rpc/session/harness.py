"""Harness of the session service: a real server and real ffmpeg, files read by PyAV; infer and voice are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import grpc
import pytest

from tests.fakes import FakeInfer, FakeVoice, serve_infer
from tests.media import DecodedVideo, decode_video
from warmtalk.config import Config, SessionConfig
from warmtalk.rpc.client import channel
from warmtalk.rpc.server import Server
from warmtalk.services.session.wiring import SessionService, build
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

Code = grpc.StatusCode


class SessionHarness:
    """A running session service, a client, and the fakes of infer and voice."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.fake = FakeInfer()
        self.voice = FakeVoice()
        self.config = SessionConfig(listen="127.0.0.1:0", x264_preset="ultrafast")
        self.infer: Server | None = None
        self.parts: SessionService | None = None
        self.stub: SessionServiceAsyncStub
        self._channel: grpc.aio.Channel

    async def start(self, **changes: object) -> None:
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        if self.infer is None:
            await self.start_infer()
        assert self.infer is not None
        config = Config(data_dir=self.data, session=replace(self.config, infer=self.infer.address))
        self.parts = build(config, self.voice)
        await self.parts.start()
        self._channel = channel(self.parts.server.address)
        self.stub = SessionServiceStub(self._channel)

    async def start_infer(self, listen: str = "127.0.0.1:0") -> None:
        self.infer = await serve_infer(self.fake, listen)

    async def stop_infer(self) -> str:
        assert self.infer is not None
        await self.infer.stop(0)
        return self.infer.address

    async def stop(self) -> None:
        if self.parts is not None:
            await self._channel.close()
            await self.parts.server.stop(0)
            await self.parts.close()
            self.parts = None

    async def close(self) -> None:
        await self.stop()
        if self.infer is not None:
            await self.infer.stop(0)

    async def create(self, session_id: str = "s1", avatar_id: str = "ann") -> pb.Session:
        request = pb.CreateSessionRequest(session_id=session_id, avatar_id=avatar_id)
        return (await self.stub.CreateSession(request)).session

    async def speak(self, session_id: str = "s1", *, text: str = "", audio: bytes = b"") -> list[pb.SpeakResponse]:
        request = pb.SpeakRequest(session_id=session_id)
        if audio:
            request.audio = audio
        else:
            request.text = text
        return [event async for event in self.stub.Speak(request)]

    async def conversation(self, session_id: str = "s1") -> pb.Conversation:
        return (await self.session(session_id)).conversation

    async def session(self, session_id: str = "s1") -> pb.Session:
        return (await self.stub.GetSession(pb.GetSessionRequest(session_id=session_id))).session

    async def wait_idle(self) -> None:
        """Waits until no utterance is in progress and infer has no stream."""
        for _ in range(200):
            session = await self.session()
            if session.state == pb.Session.STATE_IDLE and not self.fake.open:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the session is still busy")

    def files(self, session_id: str = "s1") -> set[str]:
        """Returns the paths of all files of the session."""
        root = self.data / "sessions" / session_id
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@asynccontextmanager
async def refused(code: grpc.StatusCode, *parts: str) -> AsyncIterator[None]:
    """Expects the block to fail with `code` and with every part in the message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    for part in parts:
        assert part in (caught.value.details() or "")


def event_names(events: list[pb.SpeakResponse]) -> list[str]:
    """Returns the names of the events, with consecutive progress events as one."""
    names = [event.WhichOneof("event") or "" for event in events]
    return [name for index, name in enumerate(names) if name != "progress" or names[index - 1] != "progress"]


def read_video(uri: str) -> DecodedVideo:
    """Decodes the file of a file URI."""
    parsed = urlparse(uri)
    assert parsed.scheme == "file"
    return decode_video(Path(unquote(parsed.path)))


STEPS = ["accepted", "started", "progress", "clip_ready", "conversation_updated", "finished"]
