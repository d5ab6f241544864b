"""Queue of events on the way to the client of a live stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from warmtalk.services.session.events import Body, Event, Media


class EventQueue:
    """Events for the client, in order. Event loop only."""

    def __init__(self, conversation_s: Callable[[], float]) -> None:
        """`conversation_s` returns the present length of the conversation in seconds."""
        self._conversation_s = conversation_s
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.read = asyncio.Event()
        """Set whenever the client has read an event."""
        self.unread_fragments = 0
        """Number of media fragments not read yet."""

    def put(self, body: Body) -> None:
        """Appends an event with the present length of the conversation."""
        self._events.append(Event(self._conversation_s(), body))
        self.unread_fragments += isinstance(body, Media)
        self._changed.set()

    def end(self) -> None:
        """Ends `events` after the last event."""
        self._ended = True
        self._changed.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yields events until `end`."""
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                self.unread_fragments -= isinstance(event.body, Media)
                self.read.set()
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
