"""Queue of events on the way to the client of a live stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from warmtalk.services.session.events import Body, Event, Media


class EventQueue:
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
