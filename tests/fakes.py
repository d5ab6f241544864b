"""Fakes for tests: a small avatar, an infer service with grey squares as faces, a voice that hums."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.audio import syllables
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.bundle_files import AvatarInfo, FaceTable, write_faces, write_info
from warmtalk.core.errors import Unreachable
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import Box, FrameClock, Image, Patch, cycle_row
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.rpc import convert
from warmtalk.rpc.server import Server
from warmtalk.v1 import infer_pb2, infer_pb2_grpc

WIDTH, HEIGHT, ROWS = 96, 64, 7
PATCH_BOX = Box(8, 8, 40, 40)
SHA = "ab" * 32


def make_avatar(
    root: Path,
    avatar_id: str = "ann",
    *,
    rows: int = ROWS,
    fps: str = "25",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    before: int = 0,
    after: int = 0,
) -> Path:
    """Writes a complete bundle of grey frames and returns the path.

    Stored frame k has brightness 40 + 20 * (k mod 10). `before` and `after` are the numbers of stored frames before row
    0 and after the last row.
    """
    path = root / avatar_id
    (path / "frames").mkdir(parents=True)
    stored = before + rows + after
    for number in range(-(-stored // SEGMENT_FRAMES)):
        part = range(number * SEGMENT_FRAMES, min(stored, (number + 1) * SEGMENT_FRAMES))
        encode([grey(row, size) for row in part], path / "frames" / f"{number:05d}.mp4")
    zeros = np.zeros((rows, 4), np.int32)
    faces = FaceTable(zeros, zeros.copy(), np.zeros((rows, 468, 2), np.float32), np.ones(rows, np.uint8))
    write_faces(path, faces)
    info = AvatarInfo(avatar_id, "test", SHA, fps, size[0], size[1], rows, ("mesh",))
    write_info(path, replace(info, first_frame=before, stored_frames=stored))
    return path


def grey(row: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image:
    return np.full((size[1], size[0], 3), 40 + 20 * (row % 10), np.uint8)


def encode(images: list[Image], target: Path) -> None:
    height, width = images[0].shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{width}x{height}", "-i", "pipe:0"]
    command = [
        find_ffmpeg(),
        "-v",
        "error",
        "-y",
        *source,
        "-c:v",
        "libx264",
        "-crf",
        "10",
        "-pix_fmt",
        "yuv420p",
        str(target),
    ]
    subprocess.run(command, input=b"".join(image.tobytes() for image in images), check=True)


class FakeInfer(infer_pb2_grpc.InferServiceServicer):
    """Returns frame k as a square of brightness k mod 200 + 50, as soon as audio and credit allow."""

    def __init__(self) -> None:
        self.configs: list[infer_pb2.RenderConfig] = []
        self.warmed: list[str] = []
        self.samples: list[int] = []
        """16 kHz samples of each stream."""
        self.die_at: list[int] = []
        """The next streams end with UNAVAILABLE at these frames."""
        self.hold_at: int | None = None
        """Frames from this number on wait until `go` is set."""
        self.go = asyncio.Event()
        self.held = asyncio.Event()
        self.open = 0
        self.error: Exception | None = None
        self.frame_s = 0.0

    async def Render(  # noqa: N802
        self, requests: AsyncIterator[infer_pb2.RenderRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[infer_pb2.RenderResponse]:
        config = (await anext(aiter(requests))).config
        self.configs.append(config)
        if self.error:
            raise self.error
        state = _Stream(config)
        reader = asyncio.create_task(state.read(requests))
        die_at = self.die_at.pop(0) if self.die_at else None
        self.open += 1
        try:
            yield infer_pb2.RenderResponse(
                started=infer_pb2.RenderStarted(renderer="mesh", source_frames=ROWS, source_sha256=SHA)
            )
            frame = 0
            while await state.ready(frame):
                if frame == die_at:
                    raise Unreachable("the fake infer service died")
                if frame == self.hold_at:
                    self.held.set()
                    await self.go.wait()
                if self.frame_s:
                    await asyncio.sleep(self.frame_s)
                yield infer_pb2.RenderResponse(batch=convert.frame_batch([square(config, frame)], 1))
                frame += 1
                state.credit -= 1
            self.samples.append(state.samples)
            yield infer_pb2.RenderResponse(finished=infer_pb2.RenderFinished(frames=frame))
        finally:
            self.open -= 1
            reader.cancel()

    async def WarmAvatar(  # noqa: N802
        self, request: infer_pb2.WarmAvatarRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> infer_pb2.WarmAvatarResponse:
        self.warmed.append(request.avatar_id)
        return infer_pb2.WarmAvatarResponse()


def square(config: infer_pb2.RenderConfig, frame: int) -> Patch:
    index = config.start_index + frame
    pixels = np.full((PATCH_BOX.height, PATCH_BOX.width, 3), 50 + index % 200, np.uint8)
    return Patch(frame, cycle_row(index, ROWS), PATCH_BOX, pixels)


class _Stream:
    def __init__(self, config: infer_pb2.RenderConfig) -> None:
        self.clock = FrameClock(Fraction(config.frame_rate.numerator, config.frame_rate.denominator))
        self.credit = config.initial_credit_frames
        self.samples = 0
        self.ended = False
        self._changed = asyncio.Event()

    async def read(self, requests: AsyncIterator[infer_pb2.RenderRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "audio":
                    assert not self.ended
                    self.samples += len(convert.samples(request.audio.samples_f32le, "audio"))
                case "credit":
                    self.credit += request.credit.frames
                case "end":
                    self.ended = True
            self._changed.set()

    async def ready(self, frame: int) -> bool:
        """Waits for audio and credit. Returns False after the last frame."""
        while True:
            whole = self.clock.frames_for(self.samples, 16_000)
            if self.ended and frame >= whole:
                return False
            if self.credit > 0 and frame < (whole if self.ended else whole - 1):
                return True
            self._changed.clear()
            await self._changed.wait()


async def serve_infer(fake: FakeInfer, listen: str = "127.0.0.1:0", api_key: str = "") -> Server:
    server = Server(listen, "warmtalk.v1.InferService", api_key=api_key)
    infer_pb2_grpc.add_InferServiceServicer_to_server(fake, server.grpc)
    await server.start()
    await server.ready()
    return server


class FakeVoice:
    """Hums a tenth of a second per word at 22,050 Hz. Records the sentences in `said`."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.error: Exception | None = None

    async def synthesize(self, sentence: str) -> AsyncGenerator[SpeechChunk, None]:
        self.said.append(sentence)
        if self.error:
            raise self.error
        for _ in sentence.split():
            await asyncio.sleep(0)
            yield SpeechChunk(syllables(0.1, 22_050), 22_050)

    async def warm_up(self) -> None:
        pass

    async def close(self) -> None:
        pass
