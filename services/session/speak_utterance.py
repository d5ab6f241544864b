"""One Speak in the queue of a session: its task and the events for the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from warmtalk.core.errors import Interrupted
from warmtalk.services.session.clip_pipeline import ClipPipeline
from warmtalk.services.session.events import Accepted, Body, Event, Finished, SpeakProgress
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.speech_queue import QueueSlot


class SpeakUtterance(QueueSlot):
    """One Speak. `close` is synchronous, idempotent and for any thread; all other methods are for the event loop."""

    def __init__(self, files: SessionFiles, queue: list[QueueSlot]) -> None:
        super().__init__(queue)
        self.files = files
        self._loop = asyncio.get_running_loop()
        self._mailbox: deque[Event] = deque()
        """Events not read yet; a progress event replaces an unread progress event."""
        self._mail_arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._abort_reason: Interrupted | None = None
        self._pipeline: ClipPipeline | None = None
        self._cancelled = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` in a task, which `close` and `abort` cancel. Cancelled work must leave nothing behind."""
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._task_done)

    def accept(self, sentences: int) -> None:
        """Reports the place in the queue and the number of sentences."""
        self.emit(Accepted(self.slots_ahead, sentences), 0)

    def emit(self, body: Body, frames: int) -> None:
        """Puts an event into the mailbox. `frames` counts the clip in progress.

        The frames of a committed clip are part of the conversation already.
        """
        record = self.files.record
        frames_so_far = record.conversation.frames + (frames if self.files.clip_in_progress else 0)
        if self._mailbox and isinstance(body, SpeakProgress) and isinstance(self._mailbox[-1].body, SpeakProgress):
            self._mailbox.pop()
        self._mailbox.append(Event(self.files.clock.seconds_at(frames_so_far), body))
        self._mail_arrived.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yields events up to `Finished`. Raises Interrupted after `abort`, or the errors of ClipPipeline.run."""
        assert self._task is not None
        while True:
            while self._mailbox:
                event = self._mailbox.popleft()
                yield event
                if isinstance(event.body, Finished):
                    return
            if self._task.done():
                self._raise_error_of(self._task)
            self._mail_arrived.clear()
            await self._mail_arrived.wait()

    def attach_pipeline(self, pipeline: ClipPipeline) -> None:
        """Sets the pipeline that `interrupt` stops, once the utterance has the turn."""
        self._pipeline = pipeline

    def interrupt(self, played_s: float | None) -> bool:
        """Stops the speech and keeps the part that was played; see ClipPipeline.interrupt."""
        return self._pipeline is not None and self._pipeline.interrupt(played_s)

    @property
    def kept_s(self) -> asyncio.Future[float]:
        """Seconds kept of interrupted speech; cancelled when the pipeline fails."""
        assert self._pipeline is not None, "kept_s before interrupt"
        return self._pipeline.kept_s

    def abort(self, reason: Interrupted) -> None:
        """Cancels the work; `events` raises `reason`."""
        self._abort_reason = self._abort_reason or reason
        self._cancel()

    def close(self) -> None:
        """Cancels the work when the caller is gone; does nothing after the end. Any thread, any number of times."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # marks the error as retrieved, also when nobody reads `events` any more
        self.leave()
        self._mail_arrived.set()

    def _raise_error_of(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            raise self._abort_reason or Interrupted("the Speak was cancelled")
        task.result()
