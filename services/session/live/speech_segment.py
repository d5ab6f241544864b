"""A gap-free segment of live speech: audio in as it arrives, pairs of patch and playback audio out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, SPEECH_RATE_HZ, FrameClock, Patch, Samples
from warmtalk.services.session.audio_buffer import AudioBuffer
from warmtalk.services.session.audio_splitter import AudioSplitter
from warmtalk.services.session.infer_client import InferClient, RenderSettings
from warmtalk.services.session.live.frame_buffer import FrameBuffer
from warmtalk.services.session.live.render_speed import RenderSpeed
from warmtalk.services.session.live.time_source import SYSTEM_TIME, TimeSource

_TAIL_S = 0.24
"""Silence after the audio, in which the renderer closes the lips: the silence gate holds for 120 ms and then closes
within 80 ms.
"""
_MAX_WAITING_S = 10.0
"""Audio that may wait to be shown before `wait_for_room` waits."""
_MAX_AHEAD_FRAMES = 16
"""Frames rendered before they are shown, reached one by one: streams that start at once share infer, and share the
processor with the frames that are due.
"""
_ENOUGH_AUDIO_S = 0.6
"""With more audio ahead of the patches, infer alone limits the speed at which patches arrive."""
_MIN_READY_FRAMES = 2
"""With more patches waiting, infer is not too slow."""
_SLOW_SHARE = 0.97
"""Infer is too slow below this share of the frame rate."""
_CHUNK_LATE_S = 0.25
"""Audio missing for longer has paused; before, the next chunk is only late."""


class SpeechSegment:
    """One speech segment. For one event loop; `run` has a task. `push_audio` and `end_audio` never wait."""

    def __init__(
        self,
        infer: InferClient,
        settings: RenderSettings,
        time_source: TimeSource = SYSTEM_TIME,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`settings.start_index` is the source frame at which the segment starts.

        `on_ready` is called when patches arrive and when the last patch has arrived.
        """
        self.start_index = settings.start_index
        self._infer = infer
        self._settings = settings
        self._time = time_source
        self._on_ready = on_ready
        self._pushed_at = time_source.monotonic()
        """Time of the latest audio."""
        self._changed = asyncio.Event()
        """Set when patches arrive or are shown, at the end of the audio and at a change of rate."""
        self._splitter = AudioSplitter(settings.clock, 0)
        self._rate_hz = CLIP_RATE_HZ
        """Sample rate of the latest audio."""
        self._audio_ended = False
        self._frames = FrameBuffer(settings.clock)
        self._model_audio = AudioBuffer()
        """16 kHz audio, shared with the render call, which discards audio that is not needed any more."""
        self._audio_start = 0
        """Position in `_model_audio` of the first frame by the present clock."""
        self._render_call = infer.render(settings, self._model_audio)
        self._ahead_frames = settings.ahead_frames
        """Frames that infer may be ahead of the frames shown."""
        self._speed = RenderSpeed(self._pushed_at)
        self._rendered_all = False
        self._shown_before = 0
        """Frames shown by earlier clocks."""
        self._next_clock: FrameClock | None = None
        """Clock of a change of rate that is pending."""

    @property
    def clock(self) -> FrameClock:
        """Frame clock of the frames that are ready."""
        return self._frames.clock

    @property
    def first_frame_delay_s(self) -> float:
        """Time from the start to the first patch; 0 before."""
        return self._speed.first_frame_delay_s

    @property
    def audio_ended(self) -> bool:
        """True after `end_audio`."""
        return self._audio_ended

    @property
    def ready(self) -> bool:
        """True when `next_frame` has a frame."""
        return self._frames.waiting_frames > 0

    @property
    def done(self) -> bool:
        """True when every frame of the segment has been consumed."""
        return self._rendered_all and not self.ready

    @property
    def starved(self) -> bool:
        """True when the segment waits for more audio, and not for infer."""
        late = self._time.monotonic() - self._pushed_at > _CHUNK_LATE_S
        return not self._audio_ended and not self.ready and late and self._frames.audio_ahead_s < _ENOUGH_AUDIO_S

    @property
    def too_slow_fps(self) -> float:
        """Frames per second rendered by infer when infer is slower than the stream; else 0."""
        fps, enough_audio = self._speed.fps, self._frames.audio_ahead_s > _ENOUGH_AUDIO_S
        if fps is None or not enough_audio or self._rendered_all or self._frames.waiting_frames > _MIN_READY_FRAMES:
            return 0.0
        return fps if fps < _SLOW_SHARE * self.clock.fps else 0.0

    def push_audio(self, speech: SpeechChunk) -> None:
        """Appends audio at any rate."""
        self._rate_hz = speech.rate_hz
        self._pushed_at = self._time.monotonic()
        self._append(*self._splitter.push_audio(speech))

    def end_audio(self) -> None:
        """Ends the segment after the audio so far, with a tail of silence in which the lips close. Idempotent."""
        if self._audio_ended:
            return
        self._audio_ended = True
        tail = np.zeros(int(_TAIL_S * self._rate_hz), np.float32)
        self._append(*self._splitter.push_audio(SpeechChunk(tail, self._rate_hz)))
        self._append(*self._splitter.finish())
        self._render_call.end_audio()

    async def wait_for_room(self) -> None:
        """Waits while more than 10 s of audio have not been shown."""
        while self._frames.audio_ahead_s > _MAX_WAITING_S:
            self._changed.clear()
            await self._changed.wait()

    def next_frame(self) -> tuple[Patch, Samples]:
        """Consumes the next frame: the patch and the 48 kHz audio. Only when `ready`."""
        frame = self._frames.take_frame()
        extra = int(self._settings.ahead_frames < self._frames.shown and self._ahead_frames < _MAX_AHEAD_FRAMES)
        self._ahead_frames += extra
        self._render_call.grant_credit(1 + extra)
        self._changed.set()
        return frame

    def change_rate(self, clock: FrameClock) -> None:
        """Continues at the rate of `clock`: patches that wait are shown at the old rate, the rest is rendered again."""
        self._next_clock = clock
        self._changed.set()

    async def run(self) -> None:
        """Renders until the end of the audio. Raises the errors of infer. A cancelled segment drops all its data."""
        try:
            while not await self._render():
                self._restart()
        except asyncio.CancelledError:
            self._frames.clear()
            self._model_audio.clear()
            raise

    async def _render(self) -> bool:
        """Returns True when all frames were received, False when the rate has to change first."""
        receive = asyncio.create_task(self._receive())
        rate_change = asyncio.create_task(self._wait_for_rate_change())
        try:
            await asyncio.wait({receive, rate_change}, return_when=asyncio.FIRST_COMPLETED)
            if not receive.done():
                return False
            receive.result()
            self._rendered_all = True
            self._signal()
            return True
        finally:
            for task in (receive, rate_change):
                task.cancel()
            await asyncio.gather(receive, rate_change, return_exceptions=True)

    async def _receive(self) -> None:
        async with aclosing(self._render_call.patches()) as batches:
            async for patches in batches:
                self._speed.add(len(patches), self._time.monotonic())
                self._frames.push_patches(patches)
                self._signal()

    def _signal(self) -> None:
        self._changed.set()
        self._on_ready()

    async def _wait_for_rate_change(self) -> None:
        """Returns when a change of rate is pending and every patch at the old rate has been shown."""
        while self._next_clock is None or self.ready:
            self._changed.clear()
            await self._changed.wait()

    def _restart(self) -> None:
        """Renders again from the next frame on, by the next clock."""
        assert self._next_clock is not None
        self._audio_start += round(self._frames.shown * SPEECH_RATE_HZ / self.clock.fps)
        self._shown_before += self._frames.shown
        self._frames.change_clock(self._next_clock)  # drops a batch that arrived after the last patch was shown
        self._next_clock = None
        self._speed.restart()
        self._ahead_frames = self._settings.ahead_frames
        settings = replace(self._settings, clock=self.clock, start_index=self.start_index + self._shown_before)
        self._render_call = self._infer.render(settings, self._model_audio, self._audio_start)
        if self._audio_ended:
            self._render_call.end_audio()

    def _append(self, playback_audio: Samples, model_audio: Samples) -> None:
        self._frames.push_audio(playback_audio)
        self._render_call.push_audio(model_audio)
