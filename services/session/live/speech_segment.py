"""A stretch of live speech without a gap: sound in as it comes, pairs of a picture's patch and its sound out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing
from dataclasses import replace

import grpc
import numpy as np

from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Patch, Samples
from warmtalk.services.session.audio_splitter import AudioSplitter
from warmtalk.services.session.infer_client import RenderCall, RenderSettings

_TAIL_S = 0.24
"""Silence after the sound in which the renderer shuts the lips: its gate hangs on for 120 ms, then closes in 80 ms."""
_AHEAD_S = 10.0
_MOST_AHEAD = 16
"""Frames drawn before they are shown, reached by and by: streams that begin at once share infer, and the processor with
the pictures that are due.
"""
_RATE_FRAMES = 25
"""Arrivals over which the rate of infer is measured."""
_SOUND_ENOUGH_S = 0.6
"""Sound ahead of the pictures from which on infer alone decides how fast they come."""
_PIECE_LATE_S = 0.25
"""Sound that has not come for so long has paused; before, it is only on its way."""


class SpeechSegment:
    """One event loop; `run` in a task of its own. `push` and `close` never wait."""

    def __init__(self, infer: grpc.aio.Channel, settings: RenderSettings) -> None:
        """`settings.start_index` is the source frame that it enters at."""
        self.start_index = settings.start_index
        self.clock = settings.clock
        self.began = time.monotonic()
        self.came = asyncio.Event()
        """Patches came, or were taken, or the end."""
        self._infer = infer
        self._settings = settings
        self._splitter = AudioSplitter(settings.clock, 0)
        self._rendering = RenderCall(infer, settings)
        self._ahead = settings.ahead_frames
        """Frames that infer may be ahead of what is shown."""
        self._patches: deque[Patch] = deque()
        self._heard = np.zeros(0, np.float32)
        """16 kHz sound of the pictures that were not taken yet, and of some that were."""
        self._forgotten = 0
        """Samples before it, by the present clock."""
        self._loud = np.zeros(0, np.float32)
        self._closed = False
        self._drawn_all = False
        self._frame = 0
        """Frames taken by the present clock."""
        self._base = 0
        """Frames taken before it."""
        self.delay_s = 0.0
        """From the start to the first picture."""
        self._arrivals: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._slower: FrameClock | None = None
        self._rate_hz = CLIP_RATE_HZ
        self._pushed = self.began

    @property
    def index(self) -> int:
        """Source frame of the next picture."""
        return self.start_index + self._base + self._frame

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def ready(self) -> bool:
        """There is a picture and its sound."""
        return bool(self._patches)

    @property
    def done(self) -> bool:
        """All was taken."""
        return self._drawn_all and not self._patches

    @property
    def starved(self) -> bool:
        """It waits for more sound, not for infer."""
        late = time.monotonic() - self._pushed > _PIECE_LATE_S
        return not self._closed and not self._patches and late and self._sound_ahead_s < _SOUND_ENOUGH_S

    @property
    def too_slow_hz(self) -> float:
        """Pictures a second that infer draws, when that is less than are shown; else 0."""
        enough = self._sound_ahead_s > _SOUND_ENOUGH_S and len(self._arrivals) == _RATE_FRAMES
        if not enough or len(self._patches) > 2 or self._drawn_all:
            return 0.0
        rate = (_RATE_FRAMES - 1) / max(1e-6, self._arrivals[-1] - self._arrivals[0])
        return rate if rate < 0.97 * self.clock.fps else 0.0

    def push(self, speech: SpeechChunk) -> None:
        self._rate_hz = speech.rate_hz
        self._pushed = time.monotonic()
        self._add(*self._splitter.accept(speech))

    def close(self) -> None:
        """The stretch ends here: lets the lips shut. Idempotent."""
        if self._closed:
            return
        self._closed = True
        silence = np.zeros(int(_TAIL_S * self._rate_hz), np.float32)
        self._add(*self._splitter.accept(SpeechChunk(silence, self._rate_hz)))
        self._add(*self._splitter.finish())
        self._rendering.end()

    async def room(self) -> None:
        """Waits while more than 10 s of sound are not shown yet."""
        while self._sound_ahead_s > _AHEAD_S:
            self.came.clear()
            await self.came.wait()

    def take(self) -> tuple[Patch, Samples]:
        """The next picture and its 48 kHz sound."""
        patch = self._patches.popleft()
        length = self._samples_at(self._frame + 1) - self._samples_at(self._frame)
        sound, self._loud = self._loud[:length], self._loud[length:]
        self._frame += 1
        more = int(self._settings.ahead_frames < self._frame and self._ahead < _MOST_AHEAD)
        self._ahead += more
        self._rendering.grant(1 + more)
        self.came.set()
        return patch, np.pad(sound, (0, length - len(sound)))

    def slow_down(self, clock: FrameClock) -> None:
        """Goes on at another rate: pictures that wait are shown at the old one, the rest is drawn anew."""
        self._slower = clock
        self.came.set()

    async def run(self) -> None:
        """Draws until all is drawn. Raises what infer raises. What a cancelled one has is not shown any more."""
        try:
            await self._run()
        except asyncio.CancelledError:
            self._patches.clear()
            self._heard = self._loud = np.zeros(0, np.float32)
            raise

    async def _run(self) -> None:
        while True:
            draw = asyncio.create_task(self._draw())
            slower = asyncio.create_task(self._until_slower())
            try:
                await asyncio.wait({draw, slower}, return_when=asyncio.FIRST_COMPLETED)
                if draw.done():
                    draw.result()
                    self._drawn_all = True
                    self.came.set()
                    return
            finally:
                for task in (draw, slower):
                    task.cancel()
                await asyncio.gather(draw, slower, return_exceptions=True)
            self._start_again()

    async def _draw(self) -> None:
        async with aclosing(self._rendering.patches()) as batches:
            async for patches in batches:
                now = time.monotonic()
                self.delay_s = self.delay_s or now - self.began
                self._arrivals.extend([now] * len(patches))
                self._patches.extend(patches)
                self.came.set()

    async def _until_slower(self) -> None:
        while self._slower is None or self._patches:
            self.came.clear()
            await self.came.wait()

    def _start_again(self) -> None:
        """From the next picture on, by the new clock. Sound that was shown is forgotten."""
        assert self._slower is not None
        self._heard = self._heard[self._heard_shown() :]
        self._forgotten = 0
        self.clock, self._slower = self._slower, None
        self._base += self._frame
        self._frame = 0
        self._arrivals.clear()
        self._rendering = RenderCall(
            self._infer, replace(self._settings, clock=self.clock, start_index=self.start_index + self._base)
        )
        self._ahead = self._settings.ahead_frames
        self._rendering.push(self._heard)
        if self._closed:
            self._rendering.end()

    def _add(self, loud: Samples, heard: Samples) -> None:
        if (shown := self._heard_shown()) > SPEECH_RATE_HZ:
            self._heard = self._heard[shown:]
            self._forgotten += shown
        self._loud = np.concatenate([self._loud, loud])
        self._heard = np.concatenate([self._heard, heard])
        self._rendering.push(heard)

    def _heard_shown(self) -> int:
        """Samples of `_heard` whose pictures were taken."""
        return round(self._frame * SPEECH_RATE_HZ / self.clock.fps) - self._forgotten

    @property
    def _sound_ahead_s(self) -> float:
        waiting = len(self._patches) / self.clock.fps
        return float(len(self._loud) / CLIP_RATE_HZ - waiting)

    def _samples_at(self, frame: int) -> int:
        return self.clock.samples_at(frame, CLIP_RATE_HZ)
