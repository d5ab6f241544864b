"""Registry of live streams: opens a stream for the first viewer, ends the stream after the last."""

from __future__ import annotations

import asyncio

from warmtalk.core.errors import WarmtalkError
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.broadcast import LINGER_S, Broadcast, Viewer


class LiveStreamRegistry:
    """The live streams of all sessions, at most one per session. For one event loop."""

    def __init__(self, backend: Backend, chat: ChatClient) -> None:
        self._backend = backend
        self._chat = chat
        self._streams: dict[str, Broadcast] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        """One lock per session, held while the stream is opened or ended."""
        self._endings: dict[str, asyncio.Task[None]] = {}
        """Tasks by session; each ends a stream without viewers after `LINGER_S`."""

    def running_stream(self, session_id: str) -> Broadcast | None:
        """Returns the session's live stream while one runs. A Speak would wait behind that stream."""
        stream = self._streams.get(session_id)
        return stream if stream is not None and stream.end_reason is None else None

    async def join(
        self, session_id: str, *, stream: str = "", after: int | None = None, position_s: float | None = None
    ) -> Viewer:
        """Returns a new viewer of the session's stream; the caller ends the viewer with `leave`.

        `stream` is the stream id known to the viewer. If the same stream still runs, the viewer resumes after the
        fragment `after`, or else shows the stream from exactly `position_s`. Other viewers start at the newest key
        frame. Opens the stream if necessary and then raises the errors of the session service.
        """
        try:
            broadcast = await self._running_or_new(session_id)
        except WarmtalkError:
            if session_id not in self._streams:
                self._locks.pop(session_id, None)
            raise
        same = stream == broadcast.stream_id
        return broadcast.add_viewer(after if same else None, position_s if same else None)

    def leave(self, viewer: Viewer) -> None:
        """Removes a viewer. The stream ends `LINGER_S` after its last viewer, at once if already over."""
        broadcast = viewer.broadcast
        broadcast.remove_viewer(viewer)
        if not broadcast.watched and self._streams.get(broadcast.session_id) is broadcast:
            self._endings[broadcast.session_id] = asyncio.create_task(self._end_unwatched(broadcast))

    async def close(self) -> None:
        """Ends all streams."""
        for task in self._endings.values():
            task.cancel()
        await asyncio.gather(*(stream.end() for stream in self._streams.values()))

    async def _running_or_new(self, session_id: str) -> Broadcast:
        async with self._locks.setdefault(session_id, asyncio.Lock()):
            stream = self.running_stream(session_id)
            if stream is None:
                stream = Broadcast(self._backend, self._chat, session_id)
                await stream.start()
                self._streams[session_id] = stream
            if ending := self._endings.pop(session_id, None):
                ending.cancel()
            return stream

    async def _end_unwatched(self, stream: Broadcast) -> None:
        await asyncio.sleep(0 if stream.end_reason else LINGER_S)
        async with self._locks.setdefault(stream.session_id, asyncio.Lock()):
            if stream.watched:
                return
            self._endings.pop(stream.session_id, None)
            self._streams.pop(stream.session_id, None)
            await stream.end()
            self._locks.pop(stream.session_id, None)
