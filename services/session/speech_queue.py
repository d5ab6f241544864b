"""Queue of the utterances of one session; the first slot has the turn."""

from __future__ import annotations

import asyncio

from warmtalk.core.errors import Interrupted


class QueueSlot:
    """A place in the queue of a session, first come, first served. For one event loop.

    The constructor appends the slot to `queue`; the slot at the front has the turn.
    """

    def __init__(self, queue: list[QueueSlot]) -> None:
        self._queue = queue
        self.turn = asyncio.Event()
        """Set when the slot is at the front."""
        self.left = asyncio.Event()
        """Set when the slot has left the queue."""
        queue.append(self)
        queue[0].turn.set()

    @property
    def slots_ahead(self) -> int:
        """Number of slots in front of this slot."""
        return self._queue.index(self)

    def leave(self) -> None:
        """Leaves the queue and gives the turn to the next slot. Idempotent."""
        if self in self._queue:
            self._queue.remove(self)
        if self._queue:
            self._queue[0].turn.set()
        self.left.set()

    def abort(self, reason: Interrupted) -> None:
        """Asks the holder to end with `reason`. A plain slot ignores the call: its work is short."""
