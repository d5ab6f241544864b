"""The camera of a live conversation: films frame after frame by the wall clock, a little ahead of the player.

It waits for the client's reader and for the recording, and so do infer and the voice behind it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import Fragment, LiveSettings
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.clip_pipeline import LiveOptions, PipelineDeps
from warmtalk.services.session.events import Body, Media, Opened, RateChanged
from warmtalk.services.session.infer_client import RenderSettings
from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.compositor import EncodedFrame, FrameCompositor
from warmtalk.services.session.live.frame_sequencer import FramePlan, FrameSequencer
from warmtalk.services.session.live.live_utterance import LiveUtterance
from warmtalk.services.session.live.outbox import EventQueue
from warmtalk.services.session.live.pacer import FramePacer
from warmtalk.services.session.live.speech_segment import SpeechSegment
from warmtalk.services.session.session_files import SessionFiles

log = logging.getLogger(__name__)
T = TypeVar("T")

_RATES = (Fraction(25), Fraction(21), Fraction(17))
"""Steps down when infer is slower than the stream."""
_SLOW_S = 10.0
"""So long a stream stays slow before it tries the next faster rate."""
_MOST_UNSENT = 8
"""Fragments that the client has not read; then the stream stands still."""
_MOST_UNPLAYED_S = 10.0
"""How far the stream runs ahead of a player that tells where it is."""
_AHEAD_FRAMES = 9
"""Drawn before the first is shown."""
_LEAD = (1, 8)
"""Frames between the one that plays when speech is asked for and the one that it is drawn from."""


class FrameLoop:
    """One stream; utterance.Screen. For one event loop: `open`, `run` and `close` once each, in this order."""

    def __init__(self, folder: SessionFiles, studio: PipelineDeps, options: LiveOptions, *, idle: bool) -> None:
        """`idle`: the head moves between utterances; else the stream stands still."""
        self.utterance: LiveUtterance | None = None
        """What is being said."""
        self.outbox = EventQueue()
        self.moved = self.outbox.read
        """The client read, played or asked; a frame was shown."""
        self.position: int | None = None
        """Sample of the stream that its player has reached, as far as it was told."""
        self._folder = folder
        self._studio = studio
        self._options = options
        self._idle = idle
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._stage: FrameCompositor | None = None
        self._director = FrameSequencer(folder.clock, folder.record.conversation.next_index)
        self._clock = folder.clock
        self._take: SpeechSegment | None = None
        self._pacer = FramePacer(options.ahead_s)
        self._delay_s = 0.1
        """How long infer takes to the first picture, as far as was seen."""
        self._idle_frames = 0
        self._slowed_at = 0.0
        self._cut: FramePlan | None = None
        """What the last clip ends with."""
        self._speech = False
        self._said_all = False

    async def open(self) -> None:
        """The head of the video. Raises what opening the avatar raises."""
        self._footage = await self._on_worker(self._studio.avatars.get, self._folder.record.avatar_id)
        self._stage = await run_to_completion(
            self._on_worker(FrameCompositor, self._footage, self._settings(), self._folder.clock)
        )
        encoder, info = self._stage.encoder, self._footage.info
        self.emit(
            Opened(encoder.mime_type, info.width + info.width % 2, info.height + info.height % 2, self._clock.fps)
        )
        self.emit(Media(encoder.head, speech=False))
        self._pacer.stood_still(0)

    def _settings(self) -> LiveSettings:
        """As the clips are coded that are there: then new ones take the stream's own pictures."""
        conversation = self._folder.record.conversation
        if not conversation.clips:
            return self._options.encoder
        return replace(self._options.encoder, x264=X264Settings(conversation.preset, conversation.crf))

    async def run(self) -> None:
        """Until all was said and shown."""
        while not (self._said_all and self._director.free):
            shot = self._director.next(idle=self._idle)
            if shot is None:
                await self.wait_moved()
                self._pacer.stood_still(self._samples)
                continue
            await self._shoot(shot)
            self._protect()
            self.moved.set()
            await self._pace()

    async def close(self) -> None:
        """Lets go of all that is large: who waits for the stream may hold it for long."""
        if self._stage is not None:
            await self._on_worker(self._stage.close)
        self._worker.shutdown(wait=False)
        self._director.forget()
        self._take = self._cut = self.utterance = None

    def said_all(self) -> None:
        """Nothing more will be said."""
        self._said_all = True
        self.moved.set()

    def idle_again(self) -> None:
        """The utterance is over."""
        self.utterance = self._take = None

    def played(self, position_s: float) -> None:
        self.position = round(position_s * CLIP_RATE_HZ)
        self.moved.set()

    async def wait_moved(self) -> None:
        self.moved.clear()
        await self.moved.wait()

    # --- what an utterance needs (utterance.Screen) ---

    def open_take(self) -> SpeechSegment:
        self._try_faster()
        first, last = _LEAD
        late_s = self._delay_s - self._pacer.left_s(self._samples)
        lead = min(last, max(first, math.ceil(late_s * self._clock.fps))) if self._idle else 0
        settings = RenderSettings(
            avatar_id=self._footage.info.avatar_id,
            source_sha256=self._footage.info.source_sha256,
            clock=self._clock,
            start_index=self._director.index + lead,
            batch_frames=self._studio.batch_frames,
            ahead_frames=_AHEAD_FRAMES,
        )
        self._take = SpeechSegment(self._studio.infer, settings)
        self._director.begin(self._take)
        self.moved.set()
        return self._take

    async def shown(self) -> None:
        while not self._director.free:
            await self.wait_moved()

    def stop(self) -> None:
        self._take = None
        self._director.cut()
        self.moved.set()

    async def open_recorder(self) -> ClipRecorder:
        info, first = self._footage.info, self._folder.record.conversation.frames
        assert self._stage is not None
        x264 = self._stage.encoder.settings.x264
        writer = await run_to_completion(
            asyncio.to_thread(partial(self._folder.begin, "", info.width, info.height, x264, live=True))
        )
        copies = writer.parameter_sets == self._stage.encoder.parameter_sets
        return ClipRecorder(
            writer, self._stage.picture, self._folder.clock, first, self._options.most_idle_s, copies=copies
        )

    def lead_in(self, recorder: ClipRecorder, index: int) -> None:
        if self._folder.record.conversation.clips:
            frames = min(self._idle_frames, round(self._options.most_idle_s * self._folder.clock.fps))
            recorder.lead(self._folder.record.conversation.next_index, index, frames, self._cut)
        self._cut = None

    def ended(self, cut: FramePlan | None) -> None:
        self._cut = cut

    def emit(self, body: Body) -> None:
        recorder = self.utterance.recorder if self.utterance else None
        frames = self._folder.record.conversation.frames + (recorder.frames if recorder else 0)
        self.outbox.put(self._folder.clock.seconds_at(frames), body)

    # --- one frame ---

    async def _shoot(self, shot: FramePlan) -> None:
        assert self._stage is not None
        utterance = self.utterance
        flush = shot.first or (self._director.free and not self._idle)
        if shot.first:
            self._send(await self._on_worker(self._stage.cut))  # it begins a fragment, as a key picture should
        self._speech = self._speech or shot.speech
        taken, fragment = await self._on_worker(self._stage.shoot, shot, flush)
        if fragment is not None:
            await self._pacer.even(taken.start)
            self._send(fragment)
        if utterance is not None and shot.first:
            self._learn_delay()
            utterance.first_shown(taken.start / CLIP_RATE_HZ)
        await self._record(utterance, taken)
        self._idle_frames = 0 if shot.speech else self._idle_frames + 1

    def _send(self, fragment: Fragment | None) -> None:
        if fragment is not None:
            self.emit(Media(fragment, self._speech))
            self._speech = False

    def _learn_delay(self) -> None:
        """Down at once, up by and by: a lead that is too long is always seen, one too short as a frame that stands."""
        took = self._take.delay_s if self._take else self._delay_s
        self._delay_s = min(took, self._delay_s + 0.25 * (took - self._delay_s))

    async def _record(self, utterance: LiveUtterance | None, taken: EncodedFrame) -> None:
        if utterance is None:
            return
        shot = taken.shot
        recorder = await utterance.recording(shot.index) if shot.speech else utterance.recorder
        if recorder is not None and (shot.speech or recorder.frames > recorder.lead_in):
            await recorder.add(taken)

    async def _pace(self) -> None:
        """Waits until the next frame is due, and for a client that is behind."""
        while self.outbox.fragments > _MOST_UNSENT or self._unplayed_s > _MOST_UNPLAYED_S:
            await self.wait_moved()
        await self._pacer.wait(self._samples)

    def _protect(self) -> None:
        """Fewer pictures a second rather than a stream that stalls."""
        take = self._take
        if take is None or not take.too_slow_hz or take.clock != self._clock:
            return
        slower = [rate for rate in _RATES if rate < self._clock.fps]
        if slower:
            rate = next((rate for rate in slower if rate <= take.too_slow_hz), slower[-1])
            log.warning("session %s: %.1f pictures/s, going to %s", self._folder.path.name, take.too_slow_hz, rate)
            self._clock = FrameClock(rate)
            take.slow_down(self._clock)
            self._slowed_at = time.monotonic()
            self.emit(RateChanged(rate))

    def _try_faster(self) -> None:
        """What made infer slow may have passed: one step up, between two stretches of speech."""
        faster = [rate for rate in (*reversed(_RATES[1:]), self._folder.clock.fps) if rate > self._clock.fps]
        if faster and time.monotonic() - self._slowed_at > _SLOW_S:
            self._clock = FrameClock(faster[0])
            self.emit(RateChanged(faster[0]))

    @property
    def _samples(self) -> int:
        return self._stage.encoder.duration_samples if self._stage is not None else 0

    @property
    def _unplayed_s(self) -> float:
        return 0.0 if self.position is None else (self._samples - self.position) / CLIP_RATE_HZ

    async def _on_worker(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
