"""A live conversation: one endless video that idles, speaks and is interrupted, and never jumps.

messages ── UtteranceInput ── LiveUtterance ── SpeechSegment ══ infer
                                   │                │ patches and audio
                              ClipRecorder ◄── FrameLoop ── EventQueue ── fragments and events
                                        FrameSequencer, FrameCompositor
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from warmtalk.core.errors import Busy, Interrupted
from warmtalk.core.types import CLIP_RATE_HZ, Samples
from warmtalk.services.session.async_utils import gather_or_cancel, run_to_completion
from warmtalk.services.session.events import Event
from warmtalk.services.session.live.frame_loop import FrameLoop
from warmtalk.services.session.live.live_utterance import LiveUtterance
from warmtalk.services.session.live.outbox import EventQueue
from warmtalk.services.session.live.stream_recorder import StreamRecorder
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.pipeline_deps import LiveOptions, PipelineDeps
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.speech_queue import QueueSlot

_MAX_INPUTS = 8


class LiveStream:
    """One Converse. For its event loop; `close` is for any thread."""

    def __init__(
        self,
        files: SessionFiles,
        queue: list[QueueSlot],
        deps: PipelineDeps,
        options: LiveOptions,
        make_input: Callable[[], UtteranceInput],
        *,
        idle: bool,
    ) -> None:
        """`queue` is the queue of the session; `make_input` returns the input of the next utterance."""
        self.files = files
        self._queue = queue
        self._max_idle_s = options.max_idle_s
        self._make_input = make_input
        self._loop = asyncio.get_running_loop()
        self._recorder = StreamRecorder(files)
        self.event_queue = EventQueue(self._recorder.conversation_s)
        self._frame_loop = FrameLoop(files.record, deps, options, self.event_queue, self._recorder, idle=idle)
        self._inputs: deque[UtteranceInput] = deque()
        """Inputs of the utterance in progress and of the waiting utterances."""
        self._input_changed = asyncio.Event()
        self._input_ended = False
        self._utterance: LiveUtterance | None = None
        self._abort_reason: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the stream in a task."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._task_done)

    def push_text(self, text: str) -> None:
        """Appends text to the utterance. Raises InvalidInput, Busy."""
        self._open_input().push_text(text)

    def push_audio(self, samples: Samples, rate_hz: int) -> None:
        """Appends audio to the utterance. Raises InvalidInput, Busy."""
        if len(samples):
            self._open_input().push_audio(samples, rate_hz)

    def end_utterance(self) -> None:
        """Ends the utterance; does nothing between utterances."""
        if self._inputs:
            self._inputs[-1].end()

    def end_input(self) -> None:
        """Ends the stream once all speech was shown; the client sends no more."""
        self.end_utterance()
        self._input_ended = True
        self._input_changed.set()

    async def wait_for_room(self) -> None:
        """Waits while too much input waits to be spoken."""
        if self._inputs:
            await self._inputs[-1].wait_for_room()

    def set_playback_position(self, position_s: float) -> None:
        """Takes the position of the player, in seconds of the stream."""
        self._frame_loop.set_playback_position(position_s)

    def interrupt(self, *, position_s: float | None = None, played_s: float | None = None) -> LiveUtterance | None:
        """Stops the utterance in progress and drops the utterances that wait. Returns the stopped utterance.

        The kept part ends at `position_s` of the stream, else after `played_s` seconds of speech, else at the position
        last reported by the player.
        """
        for waiting in list(self._inputs)[1:]:
            waiting.discard()
            self._inputs.remove(waiting)
        if self._utterance is not None:
            position = self._frame_loop.playback_position if position_s is None else round(position_s * CLIP_RATE_HZ)
            self._utterance.interrupt(None if played_s is not None else position, played_s)
        return self._utterance

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yields events until all speech was shown. Raises the reason of `abort`, or the error of the stream."""
        assert self._task is not None
        async with aclosing(self.event_queue.events()) as events:
            async for event in events:
                yield event
        if self._abort_reason is not None:
            raise self._abort_reason
        if self._task.cancelled():
            raise Interrupted("the conversation was cancelled")
        self._task.result()

    def abort(self, reason: Exception) -> None:
        """Ends the stream; `events` raises `reason`."""
        self._abort_reason = self._abort_reason or reason
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Cancels the stream when the client is gone; does nothing after the end. Any thread, any number of times."""
        if not self._loop.is_closed() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def wait_ended(self) -> None:
        """Returns when the stream has ended and freed its resources."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._frame_loop.open()
            await gather_or_cancel(self._frame_loop.run(), self._run_utterances())
        finally:
            await run_to_completion(self._clean_up())

    async def _run_utterances(self) -> None:
        """Runs one utterance after the other until the client sends no more."""
        while self._inputs or not self._input_ended:
            if not self._inputs:
                self._input_changed.clear()
                await self._input_changed.wait()
                continue
            self._utterance = LiveUtterance(
                self.files,
                self._queue,
                self._inputs[0],
                self._frame_loop,
                self._recorder,
                self.event_queue,
                self._max_idle_s,
                self.abort,
            )
            try:
                await self._utterance.run()
            finally:
                self._utterance = None
                self._inputs.popleft()
        self._frame_loop.end_input()

    def _open_input(self) -> UtteranceInput:
        """Returns the input of the open utterance; starts the next utterance when every input has ended."""
        if not self._inputs or self._inputs[-1].ended:
            if len(self._inputs) >= _MAX_INPUTS:
                raise Busy(
                    f"{_MAX_INPUTS} utterances are waiting already", "Wait until one has finished", retry_after_s=2.0
                )
            self._inputs.append(self._make_input())
            self._input_changed.set()
        return self._inputs[-1]

    async def _clean_up(self) -> None:
        for one in self._inputs:
            one.discard()
        self._recorder.release()
        await self._frame_loop.close()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # marks the error as retrieved, also when nobody reads `events` any more
        self.event_queue.end()
