"""One utterance of a live conversation: turn, speech segments, clip."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from warmtalk.core.errors import Interrupted, InvalidInput
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.clip_transaction import ClipTransaction
from warmtalk.services.session.events import (
    Accepted,
    ClipReady,
    ConversationUpdated,
    Finished,
    SpeechInterrupted,
    Started,
)
from warmtalk.services.session.live.background_pool import BACKGROUND_POOL, lower_thread_priority
from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.clip_timeline import ClipTimeline
from warmtalk.services.session.live.frame_loop import FrameLoop
from warmtalk.services.session.live.outbox import EventQueue
from warmtalk.services.session.live.speech_segment import SpeechSegment
from warmtalk.services.session.live.stream_recorder import StreamRecorder
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ClipRecord
from warmtalk.services.session.speech_queue import QueueSlot

log = logging.getLogger(__name__)


class LiveUtterance(QueueSlot):
    """One utterance of a live stream. For one event loop; `run` once, `interrupt` at any time."""

    def __init__(
        self,
        files: SessionFiles,
        queue: list[QueueSlot],
        source: UtteranceInput,
        frame_loop: FrameLoop,
        stream_recorder: StreamRecorder,
        events: EventQueue,
        max_idle_s: float,
        abort_stream: Callable[[Exception], None],
    ) -> None:
        """`max_idle_s` is the idle time recorded in front of the speech; `abort_stream` ends the whole stream."""
        super().__init__(queue)
        self._files = files
        self._source = source
        self._frame_loop = frame_loop
        self._stream_recorder = stream_recorder
        self._events = events
        self._max_idle_s = max_idle_s
        self._abort_stream = abort_stream
        self._requested_at = time.monotonic()
        self._start_reported = False
        self._recorder: ClipRecorder | None = None
        self._segments: set[asyncio.Task[None]] = set()
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Set by `interrupt`; holds the error of a segment that failed."""
        self._max_frames: int | None = None
        """Frames to keep of an interrupted clip, lead-in included; None keeps every speech frame."""
        self._speech_s = 0.0
        """Seconds of speech in the clip."""
        self.kept_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Seconds of speech that were kept; set at the end, cancelled when `run` fails."""

    def abort(self, reason: Interrupted) -> None:
        """Aborts the whole stream: the session stops every activity."""
        self._abort_stream(reason)

    async def run(self) -> None:
        """Speaks the input and appends the clip to the conversation.

        Raises the errors of the voice, infer, the avatar and the disk; the conversation is then unchanged.
        """
        self._events.put(Accepted(self.slots_ahead, 1))
        try:
            committed = None
            if await self._until_interrupted(self._wait_turn()):
                committed = await self._record_speech()
            else:
                self._events.put(SpeechInterrupted(0.0))
            self._report(committed)
        finally:
            self.kept_s.cancel()
            self._interrupted.cancel()
            self.leave()

    def interrupt(self, position: int | None, played_s: float | None) -> None:
        """Stops the speech and keeps the part that was played.

        The part ends at `position`, in 48 kHz samples of the stream, else after `played_s` seconds of speech; without
        both every frame shown so far is kept.
        """
        if self._interrupted.done():
            return
        if self._recorder is not None:
            self._max_frames = self._frames_played(self._recorder.timeline, position, played_s)
        self._interrupted.set_result(None)
        self._source.discard()
        self._frame_loop.cut_segment()

    def _frames_played(self, timeline: ClipTimeline, position: int | None, played_s: float | None) -> int:
        if position is not None:
            return min(timeline.frames, timeline.frames_before(position))
        if played_s is not None:
            return min(timeline.frames, timeline.lead_in_frames + round(played_s * self._files.clock.fps))
        return timeline.frames

    async def _wait_turn(self) -> None:
        await self.turn.wait()

    async def _record_speech(self) -> ClipRecord | None:
        """Speaks while the stream is recorded. Returns the committed clip; None when no speech was kept."""
        compositor = self._frame_loop.compositor
        async with ClipTransaction(
            self._files,
            "",  # the text is complete at the commit
            compositor.size,
            compositor.encoder.settings.x264,
            live=True,
            commit_pool=BACKGROUND_POOL,
            thread_initializer=lower_thread_priority,
        ) as clip:
            conversation = self._files.record.conversation
            recorder = ClipRecorder(clip, compositor, self._files.clock, conversation, self._max_idle_s)
            self._recorder = recorder
            self._stream_recorder.start(recorder)
            try:
                await self._until_interrupted(self._speak())
                self._stream_recorder.stop()
                return await self._keep(clip, recorder)
            finally:
                self._stream_recorder.stop()
                recorder.close()
                await run_to_completion(self._cancel_segments())

    async def _speak(self) -> None:
        """Pushes the input to speech segments. Returns when all speech was shown."""
        segment: SpeechSegment | None = None
        async with aclosing(self._source.speech_chunks()) as chunks:
            async for speech in chunks:
                if segment is None or segment.audio_ended:
                    segment = await self._next_segment()
                segment.push_audio(speech)
                await segment.wait_for_room()
        if segment is None:
            raise InvalidInput("the voice made no audio of this text", "Send words in a language that the voice speaks")
        segment.end_audio()
        await self._frame_loop.wait_segment_shown()

    async def _next_segment(self) -> SpeechSegment:
        await self._frame_loop.wait_segment_shown()
        segment = self._frame_loop.open_segment(self._report_started)
        task = asyncio.create_task(segment.run())
        self._segments.add(task)
        task.add_done_callback(self._segment_done)
        return segment

    def _segment_done(self, task: asyncio.Task[None]) -> None:
        self._segments.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._interrupted.done():
            self._interrupted.set_exception(error)

    async def _until_interrupted(self, work: Coroutine[Any, Any, None]) -> bool:
        """Returns True when `work` has ended, False after `interrupt`. Raises the errors of `work` and of segments."""
        task = asyncio.create_task(work)
        waits: set[asyncio.Future[None]] = {task, self._interrupted}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            await run_to_completion(asyncio.wait([task]))
        if self._interrupted.done():
            if not task.cancelled():
                task.exception()  # marks the error as retrieved; the interruption takes precedence
            self._interrupted.result()
            return False
        task.result()
        return True

    async def _keep(self, clip: ClipTransaction, recorder: ClipRecorder) -> ClipRecord | None:
        timeline = recorder.timeline
        frames = timeline.frames_to_speech_end if self._max_frames is None else self._max_frames
        speech_frames = max(0, frames - timeline.lead_in_frames)
        self._speech_s = self._files.clock.seconds_at(speech_frames)
        if self._interrupted.done():
            self._events.put(SpeechInterrupted(self._speech_s))
        if not speech_frames:
            return None
        open_mouth = timeline.open_mouth_plan(frames)
        await recorder.flush()
        following = timeline.next_source_index(frames)
        committed = await clip.commit(frames, self._source.text, following=following)
        self._stream_recorder.open_mouth = open_mouth
        return committed

    async def _cancel_segments(self) -> None:
        self._frame_loop.forget_segment()
        for task in self._segments:
            task.cancel()
        await asyncio.gather(*self._segments, return_exceptions=True)

    def _report_started(self, stream_s: float) -> None:
        """Reports the first frame of the utterance; later segments are not reported."""
        if not self._start_reported:
            self._start_reported = True
            self._events.put(Started(time.monotonic() - self._requested_at, stream_s))

    def _report(self, committed: ClipRecord | None) -> None:
        record, elapsed_s = self._files.record, time.monotonic() - self._requested_at
        if committed is not None:
            self._events.put(ClipReady(record.conversation, committed))
            self._events.put(ConversationUpdated(record.conversation))
        self.kept_s.set_result(self._speech_s)
        frames = 0 if committed is None else committed.frames
        self._events.put(Finished(frames, elapsed_s))
        log.info("session %s: live, %d frames in %.2f s", record.session_id, frames, elapsed_s)
