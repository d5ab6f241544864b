"""Run-time state of one session: files, queue and live stream."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from warmtalk.core.errors import Interrupted
from warmtalk.services.session.async_utils import run_in_pool, run_to_completion
from warmtalk.services.session.live.stream import LiveStream
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import SessionRecord
from warmtalk.services.session.speech_queue import QueueSlot

T = TypeVar("T")


class SessionState:
    """A session in memory. For one event loop; the slot at the front of `queue` is the only one that acts."""

    def __init__(self, files: SessionFiles) -> None:
        self.files = files
        self.queue: list[QueueSlot] = []
        self.stream: LiveStream | None = None
        """The latest live stream; may have ended."""
        self.deleted = False
        """True from the start of a deletion on."""

    @property
    def record(self) -> SessionRecord:
        """The record of the session."""
        return self.files.record

    @property
    def speaking(self) -> bool:
        """True while the queue is not empty."""
        return bool(self.queue)

    async def run_alone(self, reason: Interrupted, work: Callable[[], T], pool: Executor) -> T:
        """Aborts the live stream and the queue with `reason`, then runs `work` in `pool` when the turn has come.

        Work that has started is completed even when the caller is cancelled.
        """
        if self.stream is not None:
            self.stream.abort(reason)
        slots_ahead = list(self.queue)
        slot = QueueSlot(self.queue)
        try:
            for one in slots_ahead:
                one.abort(reason)
            await slot.turn.wait()
            return await run_to_completion(run_in_pool(pool, work))
        finally:
            slot.leave()

    async def shut_down(self, reason: Interrupted) -> None:
        """Aborts the live stream and waits for the end of the stream."""
        if self.stream is not None:
            self.stream.abort(reason)
            await self.stream.wait_ended()
