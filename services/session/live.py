"""A live conversation: one video without end that idles, speaks, is interrupted, and never jumps.

    client's messages ── LiveInput ── LiveUtterance ── Take ══ infer
                                          │             │ patches and sound
                                       Recorder ◄── Director ── Stage ── fragments, events

One loop films frame after frame by the wall clock, a little ahead of the player. It waits for the client's reader and
for the recording, and so do infer and the voice behind it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

from services.session.conversation import SessionFolder
from services.session.events import Body, Event, Media, Opened, RateChanged
from services.session.live_director import Director, Shot
from services.session.live_input import LiveInput
from services.session.live_pace import Outbox, Pace
from services.session.live_record import Recorder
from services.session.live_stage import Stage
from services.session.live_take import Take
from services.session.live_utterance import LiveUtterance
from services.session.render import RenderSettings
from services.session.speaker import LiveOptions, Studio, together
from services.session.utterance import Ticket, unbroken
from warmtalk.core.errors import Busy, Interrupted
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Samples
from warmtalk.media.i420 import I420

log = logging.getLogger(__name__)
T = TypeVar("T")

_RATES = (Fraction(25), Fraction(21), Fraction(17))
"""Steps down when infer is slower than the stream."""
_MOST_UNSENT = 8
"""Fragments that the client has not read; then the stream stands still."""
_MOST_UNPLAYED_S = 10.0
"""How far the stream runs ahead of a player that tells where it is."""
_MOST_INPUTS = 8
_LEAD = (1, 8)
"""Frames between the one that plays when speech is asked for and the one that it is drawn from."""


class LiveStream:
    """One Converse. For its event loop; only `close` is for any thread."""

    def __init__(
        self,
        folder: SessionFolder,
        queue: list[Ticket],
        studio: Studio,
        options: LiveOptions,
        make_input: Callable[[], LiveInput],
        *,
        idle: bool,
    ) -> None:
        self.folder = folder
        self._queue = queue
        self._studio = studio
        self._options = options
        self._make_input = make_input
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._stage: Stage | None = None
        self._director = Director(folder.clock, folder.record.conversation.frames)
        self._clock = folder.clock
        self._inputs: deque[LiveInput] = deque()
        self._utterance: LiveUtterance | None = None
        self._take: Take | None = None
        self._complete = False
        self._said_all = False
        self._outbox = Outbox()
        self._moved = self._outbox.read
        """The client read, played or asked; a frame was shown."""
        self._position: int | None = None
        self._pacer = Pace(options.ahead_s)
        self._delay_s = 0.1
        """How long infer takes to the first picture, as far as was seen."""
        self._idle_frames = 0
        self._speech = False
        self._why: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    # --- the client's side ---

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def add_text(self, text: str) -> None:
        """Raises InvalidInput, Busy."""
        self._input().add_text(text)

    def add_sound(self, samples: Samples, rate_hz: int) -> None:
        """Raises InvalidInput, Busy."""
        if len(samples):
            self._input().add_sound(samples, rate_hz)

    def end(self) -> None:
        """End of the utterance. Without one it means nothing."""
        if self._inputs:
            self._inputs[-1].end()

    def finish(self) -> None:
        """The client will send no more."""
        self.end()
        self._complete = True
        self._moved.set()

    async def room(self) -> None:
        """Waits while too much waits to be said."""
        if self._inputs:
            await self._inputs[-1].room()

    def played(self, position_s: float) -> None:
        self._position = round(position_s * CLIP_RATE_HZ)
        self._moved.set()

    def interrupt(self, *, position_s: float | None = None, played_s: float | None = None) -> LiveUtterance | None:
        """Stops the utterance under way and drops those that wait; the one that was stopped."""
        utterance = self._utterance
        for one in list(self._inputs)[1:]:
            one.drop()
            self._inputs.remove(one)
        if utterance is not None:
            told = self._position if position_s is None else round(position_s * CLIP_RATE_HZ)
            utterance.cut(None if played_s is not None else told, played_s)
        return utterance

    async def events(self) -> AsyncGenerator[Event, None]:
        """Until all was said, or raises why it ended."""
        assert self._task is not None
        async with aclosing(self._outbox.events()) as events:
            async for event in events:
                yield event
        if self._why is not None:
            raise self._why
        if self._task.cancelled():
            raise Interrupted("the conversation was cancelled")
        self._task.result()

    def fail(self, why: Exception) -> None:
        """Ends it; its client hears why."""
        self._why = self._why or why
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """The client is gone, or has heard the end. Idempotent."""
        if not self._loop.is_closed() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def ended(self) -> None:
        """Returns when nothing of it is left."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # --- what an utterance needs (live_utterance.Screen) ---

    def open_take(self) -> Take:
        first, last = _LEAD
        lead = min(last, max(first, math.floor(self._delay_s * self._clock.fps))) if self._idle else 0
        settings = RenderSettings(
            avatar_id=self._footage.info.avatar_id,
            source_sha256=self._footage.info.source_sha256,
            clock=self._clock,
            start_index=self._director.index + lead,
            batch_frames=self._studio.batch_frames,
        )
        self._take = Take(self._studio.infer, settings)
        self._director.begin(self._take)
        self._moved.set()
        return self._take

    async def shown(self) -> None:
        while not self._director.free:
            await self._wait_moved()

    def stop(self) -> None:
        self._take = None
        self._director.cut()
        self._moved.set()

    async def open_recorder(self) -> Recorder:
        info, first = self._footage.info, self.folder.record.conversation.frames
        assert self._stage is not None
        begin = partial(self.folder.begin, "", info.width, info.height, self._studio.x264, background=True)
        writer = await unbroken(asyncio.to_thread(begin))
        return Recorder(writer, self._stage.picture, self.folder.clock, first, self._options.most_idle_s)

    def lead_in(self, recorder: Recorder, index: int) -> None:
        if self.folder.record.conversation.clips:
            most = round(self._options.most_idle_s * self._clock.fps)
            recorder.lead(range(index - min(most, self._idle_frames), index))

    def emit(self, body: Body) -> None:
        recorder = self._utterance.recorder if self._utterance else None
        frames = self.folder.record.conversation.frames + (recorder.frames if recorder else 0)
        self._outbox.put(self.folder.clock.seconds_at(frames), body)

    # --- the stream ---

    async def _run(self) -> None:
        try:
            self._footage = await self._on_worker(self._studio.avatars.get, self.folder.record.avatar_id)
            self._stage = await unbroken(self._on_worker(Stage, self._footage, self._options.encoder))
            encoder = self._stage.encoder
            width, height = self._footage.info.width, self._footage.info.height
            self.emit(Opened(encoder.mime_type, width + width % 2, height + height % 2, self._clock.fps))
            self.emit(Media(encoder.head, speech=False))
            self._pacer.stood_still(0)
            await together(self._film(), self._talk())
        finally:
            await unbroken(self._clean_up())

    async def _talk(self) -> None:
        """Utterance after utterance, until the client has no more."""
        while not (self._complete and not self._inputs):
            if not self._inputs:
                await self._wait_moved()
                continue
            self._utterance = LiveUtterance(self.folder, self._queue, self._inputs[0], self)
            try:
                await self._utterance.say()
            finally:
                self._utterance = self._take = None
                self._inputs.popleft()
        self._said_all = True
        self._moved.set()

    async def _film(self) -> None:
        while not (self._said_all and self._director.free):
            shot = self._director.next(idle=self._idle)
            if shot is None:
                await self._wait_moved()
                self._pacer.stood_still(self._samples)
                continue
            await self._shoot(shot)
            self._protect()
            self._moved.set()
            await self._pace()

    async def _shoot(self, shot: Shot) -> None:
        assert self._stage is not None
        start, utterance = self._samples, self._utterance
        flush = shot.first or (self._director.free and not self._idle)
        self._speech = self._speech or shot.speech
        picture, fragment = await self._on_worker(self._stage.shoot, shot, flush)
        if fragment is not None:
            self.emit(Media(fragment, self._speech))
            self._speech = False
        if utterance is not None and shot.first:
            self._delay_s += 0.5 * ((self._take.delay_s if self._take else self._delay_s) - self._delay_s)
            utterance.first_shown(start / CLIP_RATE_HZ)
        await self._record(utterance, shot, picture, start)
        self._idle_frames = 0 if shot.speech else self._idle_frames + 1

    async def _record(self, utterance: LiveUtterance | None, shot: Shot, picture: I420, start: int) -> None:
        if utterance is None:
            return
        recorder = await utterance.recording(shot.index) if shot.speech else utterance.recorder
        if recorder is not None and (shot.speech or recorder.frames > recorder.lead_in):
            await recorder.add(shot, picture, start)

    async def _pace(self) -> None:
        """Waits until the next frame is due, and for a client that is behind."""
        while self._outbox.fragments > _MOST_UNSENT or self._unplayed_s > _MOST_UNPLAYED_S:
            await self._wait_moved()
        await self._pacer.wait(self._samples)

    def _protect(self) -> None:
        """Fewer pictures a second rather than a stream that stalls."""
        take = self._take
        if take is None or not take.too_slow_hz or take.clock != self._clock:
            return
        slower = [rate for rate in _RATES if rate < self._clock.fps]
        if slower:
            rate = next((rate for rate in slower if rate <= take.too_slow_hz), slower[-1])
            log.warning("session %s: %.1f pictures/s, going to %s", self.folder.path.name, take.too_slow_hz, rate)
            self._clock = FrameClock(rate)
            take.slow_down(self._clock)
            self.emit(RateChanged(rate))

    @property
    def _samples(self) -> int:
        return self._stage.encoder.samples if self._stage is not None else 0

    @property
    def _unplayed_s(self) -> float:
        return 0.0 if self._position is None else (self._samples - self._position) / CLIP_RATE_HZ

    def _input(self) -> LiveInput:
        """The utterance that takes what comes now."""
        if not self._inputs or self._inputs[-1].ended:
            if len(self._inputs) >= _MOST_INPUTS:
                raise Busy(f"{_MOST_INPUTS} utterances wait already", "Wait for one to finish", retry_after_s=2.0)
            self._inputs.append(self._make_input())
            self._moved.set()
        return self._inputs[-1]

    async def _wait_moved(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _clean_up(self) -> None:
        for one in self._inputs:
            one.drop()
        if self._stage is not None:
            await self._on_worker(self._stage.close)
        self._worker.shutdown(wait=False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, also when nobody listens any more
        self._outbox.end()

    async def _on_worker(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
