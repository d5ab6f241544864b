"""When the next frame of a live stream is due, and what its client has still to read."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator

from services.session.events import Body, Event, Media
from warmtalk.core.types import CLIP_RATE_HZ

_EVEN_S = 0.02
"""A frame that is made sooner is sent so long after it was due to be made: the busy moments of a machine, as when many
streams need one at once, do not show in the times between frames.
"""
_LATE_S = 0.4
"""A stream that is held up for longer goes on from where it is, else it catches up."""


class Pace:
    """The wall clock of one stream. Event loop only."""

    def __init__(self, ahead_s: float) -> None:
        """`ahead_s`: how far frames are made before a player needs them."""
        self._ahead_s = ahead_s
        self._epoch = time.monotonic()

    async def wait(self, samples: int) -> None:
        """Returns when the frame that starts at this place of the stream is due."""
        late_s = -self._until_s(samples)
        if late_s > _LATE_S:
            self._epoch += late_s
        await asyncio.sleep(self.left_s(samples))

    async def even(self, samples: int) -> None:
        """Returns when the frame that starts at this place of the stream is to be sent."""
        await asyncio.sleep(max(0.0, self._until_s(samples) + min(_EVEN_S, self._ahead_s)))

    def left_s(self, samples: int) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._until_s(samples))

    def _until_s(self, samples: int) -> float:
        return self._epoch + samples / CLIP_RATE_HZ - self._ahead_s - time.monotonic()

    def stood_still(self, samples: int) -> None:
        """Nothing was shown for a while: time goes on from here."""
        self._epoch = max(self._epoch, time.monotonic() - samples / CLIP_RATE_HZ)


class Outbox:
    """Events on their way to the client, in order. Event loop only."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.read = asyncio.Event()
        """Set whenever the client has taken something."""
        self.fragments = 0
        """Not taken yet."""

    def put(self, conversation_s: float, body: Body) -> None:
        self._events.append(Event(conversation_s, body))
        self.fragments += isinstance(body, Media)
        self._changed.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._changed.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Until the end."""
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                self.fragments -= isinstance(event.body, Media)
                self.read.set()
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
