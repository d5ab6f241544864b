"""Writes what a live stream shows of an utterance to its clip."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Samples
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile
from warmtalk.media.h264 import EncodedPicture
from warmtalk.media.i420 import I420
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.live.background_pool import BACKGROUND_POOL, lower_thread_priority, run_in_background
from warmtalk.services.session.live.compositor import EncodedFrame
from warmtalk.services.session.live.crossfade import crossfade_idle
from warmtalk.services.session.live.frame_sequencer import CUT_FADE, FramePlan

_MOST_PICTURES = 16
"""Finished pictures that wait for the clip's encoder; those behind them are drawn again when it is their turn."""
_MOST_WAITING = 256
"""Pictures that wait in all; then the stream waits too."""
_MOST_CUT = 32
"""Last pictures whose mouth is remembered: a player is not further behind than that when it interrupts."""
_NO_SOUND: Samples = np.zeros(0, np.float32)


class ClipRecorder:
    """One utterance. For one event loop; the encoder is fed by a thread of its own. Ends with `finish` or `abort`."""

    def __init__(
        self,
        writer: ClipWriter,
        draw: Callable[[FramePlan], I420],
        clock: FrameClock,
        first_frame: int,
        most_idle_s: float,
        *,
        copies: bool,
    ) -> None:
        """`draw` makes a shot's picture, in any thread; `clock` and `first_frame` are those of the conversation.
        `copies`: the clip takes pictures as the stream has coded them.
        """
        self._writer = writer
        self._draw = draw
        self._clock = clock
        self._first = first_frame
        self._copies = copies
        self._copied_to = -1
        """Where in the stream the copied pictures end, while the last one of the clip is copied."""
        self._most_idle = round(most_idle_s * CLIP_RATE_HZ)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="record", initializer=lower_thread_priority)
        self._slots = asyncio.Semaphore(_MOST_WAITING)
        self._works: set[asyncio.Future[Any]] = set()
        self._error: BaseException | None = None
        self._samples = 0
        self._frames = 0
        self._idle = 0
        self._closed = False
        self._shown: list[tuple[int, int, int]] = []
        """(start within the stream, frames of the clip before it, source index) of each picture."""
        self._mouths: deque[tuple[int, FramePlan]] = deque(maxlen=_MOST_CUT)
        """(frames of the clip before it, what it shows) of the last pictures."""
        self.lead_in = 0
        """Frames before the speech."""

    @property
    def frames(self) -> int:
        """Frames of the clip so far."""
        return self._frames

    def lead(self, after: int, before: int, frames: int, cut: FramePlan | None = None) -> None:
        """Idle pictures in front of the speech, as people pause: from source index `after`, where the last clip would
        go on, to `before`, where the speech begins. `cut` is what that clip ends with: its mouth closes in the first
        of them. Before the first `add`.
        """
        edges = [self._clock.samples_at(self._first + k, CLIP_RATE_HZ) for k in (0, frames)]
        self._samples = edges[1] - edges[0]
        self._frames = self.lead_in = frames
        shut = [] if cut is None else [replace(cut, mix=cut.mix * share, sound=_NO_SOUND) for share in CUT_FADE]
        closing = {after + k: replace(shot, index=after + k) for k, shot in enumerate(shut)}
        lead = partial(self._write_lead, after, before, frames, self._samples, closing)
        self._submit(lambda: BACKGROUND_POOL.submit(lead).result())

    async def add(self, taken: EncodedFrame) -> None:
        """A frame as it was shown; idle ones in a row are kept up to the limit. Waits when the encoder is far behind.
        Raises what it raises.
        """
        shot = taken.shot
        self._idle = 0 if shot.speech else self._idle + len(shot.sound)
        if self._idle <= self._most_idle and not self._closed:
            self._shown.append((taken.start, self._frames, shot.index))
            self._mouths.append((self._frames, shot))
            await self._add(taken)

    def frames_before(self, position: int) -> int:
        """Frames of the clip that are shown before this place of the stream; those in front of the speech count."""
        later = (frames for start, frames, _ in self._shown if start >= position)
        return next(later, self._frames)

    def following(self, frames: int) -> int:
        """Source index after the last picture of the clip, cut to so many frames, more than those before the speech."""
        return next(index for _, before, index in reversed(self._shown) if before < frames) + 1

    def last(self, frames: int) -> FramePlan | None:
        """What the clip shows at its end, cut to so many frames, if it speaks there and that is not long ago."""
        shot = next((shot for before, shot in reversed(self._mouths) if before < frames), None)
        return shot if shot is not None and shot.patch is not None else None

    async def finish(self, most_frames: int) -> ClipFile:
        """The clip, cut to `most_frames`, at least 1. Raises what ClipWriter.finish raises."""
        self._closed = True
        await self._flush()
        clip = await run_to_completion(run_in_background(partial(self._writer.finish, most_frames)))
        self._mouths.clear()
        self._worker.shutdown(wait=False)
        return clip

    async def abort(self) -> None:
        """Leaves nothing on disk. Idempotent; does nothing to a finished clip."""
        self._closed = True
        await asyncio.to_thread(self._writer.abort)
        await asyncio.gather(*self._works, return_exceptions=True)
        self._mouths.clear()
        await asyncio.to_thread(self._writer.abort)
        self._worker.shutdown(wait=False)

    async def _add(self, taken: EncodedFrame) -> None:
        if self._error is not None:
            raise self._error
        shot = taken.shot
        self._samples += len(shot.sound)
        base = self._clock.samples_at(self._first, CLIP_RATE_HZ)
        whole = round((base + self._samples) * self._clock.fps / CLIP_RATE_HZ) - self._first
        times, self._frames = whole - self._frames, whole
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            return
        if self._fits(taken) and times == 1:
            self._copied_to = taken.start + len(shot.sound)
            work = self._submit(self._copy, taken.coded, shot.sound)
        else:
            self._copied_to = -1
            picture = taken.picture if len(self._works) < _MOST_PICTURES else None
            work = self._submit(self._write, shot, picture, times)
        work.add_done_callback(lambda _: self._slots.release())

    def _fits(self, taken: EncodedFrame) -> bool:
        """Its coded form can follow what the clip has."""
        return self._copies and (taken.coded.keyframe or taken.start == self._copied_to)

    def _submit(self, work: Callable[..., None], *args: Any) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
        self._works.add(future)
        future.add_done_callback(self._written)
        return future

    def _write_lead(self, after: int, before: int, frames: int, samples: int, closing: dict[int, FramePlan]) -> None:
        def draw(index: int) -> I420:
            return self._draw(closing.get(index) or FramePlan(index, _NO_SOUND))

        for picture in crossfade_idle(draw, after, before, frames):
            self._writer.write_i420(picture)
        self._writer.write_audio(np.zeros(samples, np.float32))

    def _copy(self, picture: EncodedPicture, sound: Samples) -> None:
        self._writer.write_encoded(picture)
        self._writer.write_audio(sound)

    def _write(self, shot: FramePlan, picture: I420 | None, times: int) -> None:
        """A slower stream's pictures are repeated: the clip has its conversation's rate."""
        drawn = self._draw(shot) if picture is None else picture
        for _ in range(times):
            self._writer.write_i420(drawn)
        self._writer.write_audio(shot.sound)

    def _written(self, work: asyncio.Future[Any]) -> None:
        self._works.discard(work)
        if not work.cancelled():
            self._error = self._error or work.exception()

    async def _flush(self) -> None:
        while self._works:
            await asyncio.wait(set(self._works))
        if self._error is not None:
            raise self._error
