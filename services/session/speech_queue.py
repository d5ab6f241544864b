"""A place in a session's queue, and a Speak that holds one: its task and what its caller gets to hear."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Protocol, TypeVar

from warmtalk.core.errors import Interrupted
from warmtalk.services.session.events import Accepted, Body, Event, Finished, SpeakProgress
from warmtalk.services.session.session_files import SessionFiles

T = TypeVar("T")


class QueueSlot:
    """First come, first served. Made at the end of `queue`; at its front when `turn` is set."""

    def __init__(self, queue: list[QueueSlot]) -> None:
        self._queue = queue
        self.turn = asyncio.Event()
        self.left = asyncio.Event()
        queue.append(self)
        queue[0].turn.set()

    @property
    def before(self) -> int:
        """Places in front of this one."""
        return self._queue.index(self)

    def leave(self) -> None:
        """Idempotent."""
        if self in self._queue:
            self._queue.remove(self)
        if self._queue:
            self._queue[0].turn.set()
        self.left.set()

    def interrupt(self, why: Interrupted) -> None:
        """Asks the holder to end; one that is not a Speak is short and ends by itself."""


class InterruptibleSpeech(Protocol):
    """What is being said."""

    kept: asyncio.Future[float]

    def cut(self, played_s: float | None) -> bool: ...


class SpeakUtterance(QueueSlot):
    """One Speak. `close` is sync, idempotent and for any thread; all else for the event loop."""

    def __init__(self, folder: SessionFiles, queue: list[QueueSlot]) -> None:
        super().__init__(queue)
        self.folder = folder
        self._loop = asyncio.get_running_loop()
        self._mailbox: deque[Event] = deque()
        """At most one of a kind: progress replaces progress that was not read."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._why: Interrupted | None = None
        self._speaker: InterruptibleSpeech | None = None
        self._cancelled = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """The work is cancelled by `close` and `interrupt` and leaves nothing behind then."""
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._ended)

    def accept(self, sentences: int) -> None:
        self.emit(Accepted(self.before, sentences), 0)

    def emit(self, body: Body, frames: int) -> None:
        """`frames` are those of the clip under way; a finished clip is in the conversation already."""
        conversation = self.folder.record.conversation
        done = conversation.frames + (0 if self.folder.record.saying is None else frames)
        if self._mailbox and isinstance(body, SpeakProgress) and isinstance(self._mailbox[-1].body, SpeakProgress):
            self._mailbox.pop()
        self._mailbox.append(Event(self.folder.clock.seconds_at(done), body))
        self._news.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Until `Finished`, or raises why it ended: Interrupted, or what `Speaker.say` raises."""
        assert self._task is not None
        while True:
            while self._mailbox:
                event = self._mailbox.popleft()
                yield event
                if isinstance(event.body, Finished):
                    return
            if self._task.done():
                self._raise(self._task)
            self._news.clear()
            await self._news.wait()

    def begin(self, speaker: InterruptibleSpeech) -> None:
        """It is its turn."""
        self._speaker = speaker

    def cut(self, played_s: float | None) -> bool:
        """Stops it and keeps what was played, default all that was made; whether there is something to stop."""
        return self._speaker is not None and self._speaker.cut(played_s)

    @property
    def kept(self) -> asyncio.Future[float]:
        """Seconds kept of one that was cut; cancelled when it fails."""
        assert self._speaker is not None, "kept before cut"
        return self._speaker.kept

    def interrupt(self, why: Interrupted) -> None:
        """Ends it; its caller hears why."""
        self._why = self._why or why
        self._cancel()

    def close(self) -> None:
        """The caller is gone, or has heard the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, also when nobody listens any more
        self.leave()
        self._news.set()

    def _raise(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            raise self._why or Interrupted("the Speak was cancelled")
        task.result()
