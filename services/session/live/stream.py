"""A live conversation: one video without end that idles, speaks, is interrupted, and never jumps.

client's messages ── LiveInput ── LiveUtterance ── Take ══ infer
                                      │             │ patches and sound
                                   Recorder ◄──── Film ── fragments, events
                                            Director, Stage
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from warmtalk.core.errors import Busy, Interrupted
from warmtalk.core.types import CLIP_RATE_HZ, Samples
from warmtalk.services.session.async_utils import gather_or_cancel, run_to_completion
from warmtalk.services.session.clip_pipeline import LiveOptions, PipelineDeps
from warmtalk.services.session.events import Event
from warmtalk.services.session.live.frame_loop import FrameLoop
from warmtalk.services.session.live.live_utterance import LiveUtterance
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.speech_queue import QueueSlot

_MOST_INPUTS = 8


class LiveStream:
    """One Converse. For its event loop; only `close` is for any thread."""

    def __init__(
        self,
        folder: SessionFiles,
        queue: list[QueueSlot],
        studio: PipelineDeps,
        options: LiveOptions,
        make_input: Callable[[], UtteranceInput],
        *,
        idle: bool,
    ) -> None:
        self.folder = folder
        self._queue = queue
        self._make_input = make_input
        self._loop = asyncio.get_running_loop()
        self._film = FrameLoop(folder, studio, options, idle=idle)
        self._inputs: deque[UtteranceInput] = deque()
        self._complete = False
        self._why: Exception | None = None
        self._task: asyncio.Task[None] | None = None

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
        self._film.moved.set()

    async def room(self) -> None:
        """Waits while too much waits to be said."""
        if self._inputs:
            await self._inputs[-1].room()

    def played(self, position_s: float) -> None:
        """Where the player is, in seconds of the stream."""
        self._film.played(position_s)

    def interrupt(self, *, position_s: float | None = None, played_s: float | None = None) -> LiveUtterance | None:
        """Stops the utterance under way and drops those that wait; the one that was stopped."""
        utterance = self._film.utterance
        for one in list(self._inputs)[1:]:
            one.drop()
            self._inputs.remove(one)
        if utterance is not None:
            told = self._film.position if position_s is None else round(position_s * CLIP_RATE_HZ)
            utterance.cut(None if played_s is not None else told, played_s)
        return utterance

    async def events(self) -> AsyncGenerator[Event, None]:
        """Until all was said, or raises why it ended."""
        assert self._task is not None
        async with aclosing(self._film.outbox.events()) as events:
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

    async def _run(self) -> None:
        try:
            await self._film.open()
            await gather_or_cancel(self._film.run(), self._talk())
        finally:
            await run_to_completion(self._clean_up())

    async def _talk(self) -> None:
        """Utterance after utterance, until the client has no more."""
        while not (self._complete and not self._inputs):
            if not self._inputs:
                await self._film.wait_moved()
                continue
            utterance = LiveUtterance(self.folder, self._queue, self._inputs[0], self._film, self.fail)
            self._film.utterance = utterance
            try:
                await utterance.say()
            finally:
                self._film.idle_again()
                self._inputs.popleft()
        self._film.said_all()

    def _input(self) -> UtteranceInput:
        """The utterance that takes what comes now."""
        if not self._inputs or self._inputs[-1].ended:
            if len(self._inputs) >= _MOST_INPUTS:
                raise Busy(f"{_MOST_INPUTS} utterances wait already", "Wait for one to finish", retry_after_s=2.0)
            self._inputs.append(self._make_input())
            self._film.moved.set()
        return self._inputs[-1]

    async def _clean_up(self) -> None:
        for one in self._inputs:
            one.drop()
        await self._film.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, also when nobody listens any more
        self._film.outbox.end()
