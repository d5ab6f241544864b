"""The live streams of all sessions, and who comes and goes."""

from __future__ import annotations

import asyncio

from warmtalk.core.errors import WarmtalkError
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.broadcast import LINGER_S, Broadcast, Viewer


class LiveStreamRegistry:
    """The live streams of all sessions."""

    def __init__(self, backend: Backend, partner: ChatClient) -> None:
        self._backend = backend
        self._partner = partner
        self._live: dict[str, Broadcast] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def busy(self, session_id: str) -> bool:
        """Whether it has a live stream, behind which a Speak would wait."""
        live = self._live.get(session_id)
        return live is not None and live.ended is None

    async def join(
        self, session_id: str, *, stream: str = "", after: int | None = None, position_s: float | None = None
    ) -> Viewer:
        """The player's place; ends with `leave`.

        A player that has all of `stream` up to the fragment `after` is sent the next one. Another that was at
        `position_s` shows the stream from exactly there, a new one from the newest key picture.
        """
        try:
            live = await self._find(session_id)
        except WarmtalkError:
            if session_id not in self._live:
                self._opening.pop(session_id, None)
            raise
        viewer = _viewer(live, after, position_s) if stream == live.stream_id else _viewer(live, None, None)
        live.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        live = viewer.live
        live.viewers.discard(viewer)
        live.took()
        if not live.viewers and self._live.get(live.session_id) is live:
            self._leaving[live.session_id] = asyncio.create_task(self._let_go(live))

    async def close(self) -> None:
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*(live.close() for live in self._live.values()))

    async def _find(self, session_id: str) -> Broadcast:
        """The stream that is there, or a new one."""
        async with self._opening.setdefault(session_id, asyncio.Lock()):
            live = self._live.get(session_id)
            if live is None or live.ended is not None:
                live = Broadcast(self._backend, self._partner, session_id)
                await live.open()
                self._live[session_id] = live
            if leaving := self._leaving.pop(session_id, None):
                leaving.cancel()
            return live

    async def _let_go(self, live: Broadcast) -> None:
        await asyncio.sleep(0 if live.ended else LINGER_S)
        async with self._opening.setdefault(live.session_id, asyncio.Lock()):
            if live.viewers:
                return
            self._leaving.pop(live.session_id, None)
            self._live.pop(live.session_id, None)
            await live.close()
            self._opening.pop(live.session_id, None)


def _viewer(live: Broadcast, after: int | None, position_s: float | None) -> Viewer:
    if after is not None and live.ring.follows(after):
        return Viewer(live, after, resumed=True)
    sequence, begin_s = live.ring.begin(position_s)
    return Viewer(live, sequence, begin_s)
