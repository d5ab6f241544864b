"""Fakes for unit tests of the live path: a clock, infer and the compositor. No servers, no threads, no waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fakes import PATCH_BOX, ROWS, SHA
from warmtalk.core.types import SPEECH_RATE_HZ, Patch, Samples, cycle_row
from warmtalk.media.h264 import EncodedPicture, X264Settings
from warmtalk.media.live_encoder import Fragment, LiveSettings
from warmtalk.services.session.audio_buffer import AudioBuffer
from warmtalk.services.session.infer_client import RenderSettings
from warmtalk.services.session.live.compositor import EncodedFrame
from warmtalk.services.session.live.frame_sequencer import FramePlan

_SETTLE_PASSES = 15
"""Passes of the event loop after which every task waits for the clock or for another task."""
_IMAGE = np.zeros((96, 96), np.uint8)


class FakeTime:
    """A clock that moves when a test says so; `sleep` waits for the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), woken))
        await woken

    def stall(self, seconds: float) -> None:
        """Moves the clock while the caller keeps the thread, as blocking work does."""
        self.now += seconds

    async def advance(self, seconds: float) -> None:
        """Moves the clock and wakes every sleeper at the deadline, in order."""
        end = self.now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, deadline)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self.now = max(self.now, end)

    async def settle(self) -> None:
        """Lets every task run until the task waits."""
        for _ in range(_SETTLE_PASSES):
            await asyncio.sleep(0)


class InlineExecutor(Executor):
    """Runs work at once in the calling thread; stands in for a thread pool."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class FakeInferClient:
    """Renders each frame `frame_s` after the one before, within the credit; remembers every call."""

    def __init__(self, time: FakeTime, frame_s: float = 0.0) -> None:
        self.time = time
        self.frame_s = frame_s
        self.calls: list[FakeRenderCall] = []

    def render(
        self, settings: RenderSettings, audio: AudioBuffer | None = None, audio_start: int = 0
    ) -> FakeRenderCall:
        self.calls.append(FakeRenderCall(self, settings, AudioBuffer() if audio is None else audio, audio_start))
        return self.calls[-1]


class FakeRenderCall:
    """One call of FakeInferClient, with the methods of RenderCall."""

    def __init__(self, client: FakeInferClient, settings: RenderSettings, audio: AudioBuffer, audio_start: int) -> None:
        self.settings = settings
        self.audio = audio
        self.audio_start = audio_start
        self.audio_ended = False
        self.credit = settings.ahead_frames
        self.frames = 0
        self.error: Exception | None = None
        self._client = client
        self._changed = asyncio.Event()

    def push_audio(self, samples: Samples) -> None:
        self.audio.append(samples)
        self._changed.set()

    def end_audio(self) -> None:
        self.audio_ended = True
        self._changed.set()

    def grant_credit(self, frames: int) -> None:
        self.credit += frames
        self._changed.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._changed.set()

    async def patches(self) -> AsyncGenerator[list[Patch], None]:
        while True:
            if self.error is not None:
                raise self.error
            known = self.settings.clock.frames_for(self.audio.end - self.audio_start, SPEECH_RATE_HZ)
            if self.audio_ended and self.frames == known:
                return
            if self.credit > 0 and self.frames < known - (not self.audio_ended):
                if self._client.frame_s:
                    await self._client.time.sleep(self._client.frame_s)
                self.credit -= 1
                self.frames += 1
                yield [patch(self.frames - 1, self.settings.start_index)]
            else:
                self._changed.clear()
                await self._changed.wait()


def patch(frame: int, start_index: int = 0) -> Patch:
    pixels = np.full((PATCH_BOX.height, PATCH_BOX.width, 3), 50 + frame % 200, np.uint8)
    return Patch(frame, cycle_row(start_index + frame, ROWS), PATCH_BOX, pixels)


class FakeCompositor:
    """Encodes nothing: each frame is a fragment. `encode_s` gives the time that frames take, by number."""

    size = (64, 48)
    avatar_id = "ann"
    source_sha256 = SHA

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.encode_s: dict[int, float] = {}
        self.plans: list[FramePlan] = []
        self.closed = False
        self.encoder = SimpleNamespace(
            mime_type="video/mp4",
            head=Fragment(b"", 0, 0, 0, 0, 0, False),
            settings=LiveSettings(X264Settings()),
            parameter_sets=b"",
            duration_samples=0,
        )

    def encode_frame(self, plan: FramePlan, *, flush: bool) -> tuple[EncodedFrame, Fragment | None]:
        number, position, samples = len(self.plans), self.encoder.duration_samples, len(plan.audio)
        self.time.stall(self.encode_s.get(number, 0.0))
        self.plans.append(plan)
        self.encoder.duration_samples += samples
        encoded = EncodedPicture(b"", plan.starts_segment)
        fragment = Fragment(b"", number + 1, number, 1, position, samples, plan.starts_segment)
        return EncodedFrame(plan, _IMAGE, encoded, position), fragment

    def end_fragment(self) -> Fragment | None:
        return None

    def close(self) -> None:
        self.closed = True
