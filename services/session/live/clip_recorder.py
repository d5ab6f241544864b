"""Writes the frames that a live stream shows during one utterance to the clip of the utterance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Samples
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import EncodedPicture
from warmtalk.media.i420 import I420
from warmtalk.services.session.clip_transaction import ClipTransaction
from warmtalk.services.session.live.background_pool import BACKGROUND_POOL
from warmtalk.services.session.live.clip_timeline import ClipTimeline
from warmtalk.services.session.live.compositor import EncodedFrame, FrameCompositor
from warmtalk.services.session.live.crossfade import crossfade_idle
from warmtalk.services.session.live.frame_sequencer import CUT_FADE, FramePlan
from warmtalk.services.session.session_record import ConversationRecord

_MAX_WAITING_IMAGES = 16
"""Composited images that wait for the encoder of the clip; later frames are composited again when their turn comes."""
_MAX_WAITING_FRAMES = 256
"""Frames that wait in all; beyond, the stream waits too."""
_NO_AUDIO: Samples = np.zeros(0, np.float32)


class ClipRecorder:
    """Recording of one utterance. For one event loop; writes run in the thread of the clip.

    `begin` first, then `record` for each frame shown; `flush` before the commit, `close` in any case.
    """

    def __init__(
        self,
        clip: ClipTransaction,
        compositor: FrameCompositor,
        clock: FrameClock,
        conversation: ConversationRecord,
        max_idle_s: float,
    ) -> None:
        """`clock` has the rate of the conversation; `max_idle_s` is the idle time kept between utterances."""
        self._clip = clip
        self._compositor = compositor
        self._clock = clock
        self._conversation = conversation
        self._max_idle_s = max_idle_s
        self._writer: ClipWriter | None = None
        self._copies = False
        """True when the clip can take frames as the stream has encoded them."""
        self._copied_until = -1
        """Position in the stream after the last copied frame; -1 when the last frame of the clip was not copied."""
        self._free_slots = asyncio.Semaphore(_MAX_WAITING_FRAMES)
        self._writes: set[asyncio.Future[Any]] = set()
        self._error: BaseException | None = None
        self._idle_samples = 0
        """Idle audio in a row since the last speech."""
        self._closed = False
        self.timeline = ClipTimeline(clock, conversation.frames)

    @property
    def started(self) -> bool:
        """True after `begin`."""
        return self._writer is not None

    async def begin(self, source_index: int, idle_frames: int, open_mouth: FramePlan | None) -> None:
        """Waits until the clip is open, then writes the idle frames in front of the speech, as people pause.

        `source_index` is the source frame at which the speech begins, `idle_frames` the idle time before the speech.
        `open_mouth` is the last frame of the clip before when the mouth is open there: the mouth closes first.
        Does nothing after `close`. Raises the errors of SessionFiles.begin_clip.
        """
        writer = await self._clip.writer()
        if self._closed:
            return
        self._writer = writer
        self._copies = writer.parameter_sets == self._compositor.encoder.parameter_sets
        if self._conversation.clips:
            frames = min(idle_frames, round(self._max_idle_s * self._clock.fps))
            self._submit_lead_in(writer, self._conversation.next_index, source_index, frames, open_mouth)

    async def record(self, frame: EncodedFrame) -> None:
        """Writes a frame shown by the stream; idle frames in a row are kept up to `max_idle_s`.

        Waits when the encoder of the clip is far behind. Raises the first error of the writes.
        """
        if self._closed or self._writer is None:
            return
        plan = frame.plan
        self._idle_samples = 0 if plan.speech else self._idle_samples + len(plan.audio)
        if self._idle_samples <= round(self._max_idle_s * CLIP_RATE_HZ):
            await self._write(self._writer, frame)

    async def flush(self) -> None:
        """Waits until every frame is written. Raises the first error of the writes."""
        self._closed = True
        while self._writes:
            await asyncio.wait(set(self._writes))
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ignores all further frames and frees the patches. Idempotent."""
        self._closed = True
        self.timeline.release()

    def _submit_lead_in(
        self, writer: ClipWriter, after: int, before: int, frames: int, open_mouth: FramePlan | None
    ) -> None:
        """Writes `frames` idle frames from source index `after`, where the last clip would continue, to `before`."""
        samples = self.timeline.add_lead_in(frames)
        closing = {} if open_mouth is None else _closing_mouth(open_mouth, after)

        def composite(source_index: int) -> I420:
            return self._compositor.composite(closing.get(source_index) or FramePlan(source_index, _NO_AUDIO))

        def write() -> None:
            for image in crossfade_idle(composite, after, before, frames):
                writer.write_i420(image)
            writer.write_audio(np.zeros(samples, np.float32))

        # in the shared pool, because every image is encoded here and many streams may begin to speak at once
        self._submit(lambda: BACKGROUND_POOL.submit(write).result())

    async def _write(self, writer: ClipWriter, frame: EncodedFrame) -> None:
        if self._error is not None:
            raise self._error
        audio = frame.plan.audio
        repeats = self.timeline.add_frame(frame.position, frame.plan)
        await self._free_slots.acquire()
        if self._closed:
            self._free_slots.release()
            return
        if repeats == 1 and self._can_copy(frame):
            self._copied_until = frame.position + len(audio)
            write = self._submit(_copy, writer, frame.encoded, audio)
        else:
            self._copied_until = -1
            image = frame.image if len(self._writes) < _MAX_WAITING_IMAGES else None
            write = self._submit(self._encode, writer, frame.plan, image, repeats)
        write.add_done_callback(lambda _: self._free_slots.release())

    def _can_copy(self, frame: EncodedFrame) -> bool:
        """Returns True when the encoded frame can follow the last frame of the clip."""
        return self._copies and (frame.encoded.keyframe or frame.position == self._copied_until)

    def _encode(self, writer: ClipWriter, plan: FramePlan, image: I420 | None, repeats: int) -> None:
        composited = self._compositor.composite(plan) if image is None else image
        for _ in range(repeats):
            writer.write_i420(composited)
        writer.write_audio(plan.audio)

    def _submit(self, work: Callable[..., None], *args: Any) -> asyncio.Future[None]:
        future = self._clip.submit(work, *args)
        self._writes.add(future)
        future.add_done_callback(self._write_done)
        return future

    def _write_done(self, write: asyncio.Future[Any]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            self._error = self._error or write.exception()


def _copy(writer: ClipWriter, picture: EncodedPicture, audio: Samples) -> None:
    writer.write_encoded(picture)
    writer.write_audio(audio)


def _closing_mouth(open_mouth: FramePlan, after: int) -> dict[int, FramePlan]:
    """Returns the plans, by source index from `after`, in which the mouth of `open_mouth` closes."""
    weights = [open_mouth.patch_weight * weight for weight in CUT_FADE]
    return {
        after + k: replace(open_mouth, source_index=after + k, patch_weight=weight, audio=_NO_AUDIO)
        for k, weight in enumerate(weights)
    }
