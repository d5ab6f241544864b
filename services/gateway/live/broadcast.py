"""One Converse a session, and any number of players of it that come and go."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc

from warmtalk.core.errors import Busy, Interrupted, WarmtalkError
from warmtalk.rpc.errors import from_rpc
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer
from warmtalk.services.gateway.problems import unexpected
from warmtalk.services.gateway.schemas import error_event, event_view
from warmtalk.v1 import session_pb2

log = logging.getLogger(__name__)

RATE_HZ = 16_000
"""Of the sound that players send: 16-bit mono."""
LINGER_S = 10.0
"""A stream without players goes on so long: a page that is loaded again finds it."""
_AHEAD = 100
"""Fragments that the quickest player may be behind; then the stream is not read on, which slows the renderer."""
_GIVE_UP_S = 60.0
"""When none of them has taken one for so long, they are as good as gone."""
_EVENTS = 256
_REPLAYED = {"answer", "accepted", "started"}
"""Events of an utterance that a player who comes in its middle must know."""
_OPEN_S = 20.0


class Viewer:
    """A player's place in the stream, and the events that it has not seen. Full of events, the oldest are dropped."""

    def __init__(self, live: Broadcast, sequence: int, begin_s: float = 0.0, *, resumed: bool = False) -> None:
        """It has, or does not need, what is up to `sequence`; unless `resumed` it begins anew, to show at `begin_s`."""
        self.live = live
        self.sequence = sequence
        self.begin_s = begin_s
        self.resumed = resumed
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_EVENTS)

    def tell(self, event: dict[str, Any]) -> None:
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(event)

    async def pieces(self) -> AsyncIterator[BufferedFragment]:
        """Fragments from its place on, until the stream ends."""
        while True:
            piece = self.live.ring.after(self.sequence)
            if piece is None:
                if self.live.ended is not None:
                    return
                await self.live.changed()
                continue
            yield piece
            self.sequence = piece.sequence
            self.live.took()


class Broadcast:
    """A session's live stream. Opened by `open`; ends by itself, see `ended`."""

    def __init__(self, backend: Backend, partner: ChatClient, session_id: str) -> None:
        self.session_id = session_id
        self.stream_id = uuid.uuid4().hex[:12]
        self.ring = ReplayBuffer()
        self.head = b""
        self.opened: dict[str, Any] = {}
        self.ended: WarmtalkError | None = None
        self.viewers: set[Viewer] = set()
        self._utterance: list[dict[str, Any]] = []
        self._partner = partner
        self._call: Any = backend.session.Converse()
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ready = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises what the session service raises: NotFound, Busy, Unreachable ..."""
        config = session_pb2.ConverseConfig(session_id=self.session_id, sample_rate_hz=RATE_HZ)
        self._reading = asyncio.create_task(self._read())
        with suppress(WarmtalkError, TimeoutError):
            await self._write(session_pb2.ConverseRequest(config=config))
            await asyncio.wait_for(self._ready.wait(), _OPEN_S)
        if not self.opened:
            self._call.cancel()
            raise self.ended or Busy(f"session {self.session_id!r} does not begin its live video", "Try again")

    async def changed(self) -> None:
        """Returns at the next fragment, or at the end."""
        self._changed.clear()
        await self._changed.wait()

    def took(self) -> None:
        """A player has taken a fragment."""
        self._room.set()

    async def text(self, text: str) -> None:
        await self._write(session_pb2.ConverseRequest(text=text))

    async def pcm(self, data: bytes) -> None:
        await self._write(session_pb2.ConverseRequest(pcm_s16le=data))

    async def end(self) -> None:
        """Of the utterance."""
        await self._write(session_pb2.ConverseRequest(end=session_pb2.EndOfUtterance()))

    async def playback(self, position_s: float) -> None:
        message = session_pb2.ConverseRequest()
        message.playback.position.FromTimedelta(timedelta(seconds=position_s))
        await self._write(message)

    async def interrupt(self, position_s: float | None) -> None:
        """Stops the answer that is being made and what is being said."""
        await self._stop_asking()
        message = session_pb2.ConverseRequest(interrupt=session_pb2.InterruptNow())
        if position_s is not None:
            message.interrupt.position.FromTimedelta(timedelta(seconds=position_s))
        await self._write(message)

    async def ask(self, text: str) -> None:
        """The partner's answer is spoken while it is being written; ends the answer before it."""
        await self._stop_asking()
        self._asking = asyncio.create_task(self._answer(text))

    async def close(self) -> None:
        """Lets it say what it has begun to say, for a while."""
        await self._stop_asking()
        if self.ended is None:
            with suppress(asyncio.InvalidStateError, grpc.RpcError):
                await self._call.done_writing()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=LINGER_S)
            self._call.cancel()
            await asyncio.wait({self._reading})

    def tell(self, event: dict[str, Any]) -> None:
        """To every player."""
        if event["event"] in _REPLAYED:
            self._utterance.append(event)
            del self._utterance[:-_EVENTS]
        elif event["event"] == "finished":
            self._utterance.clear()
        for viewer in self.viewers:
            viewer.tell(event)

    def add(self, viewer: Viewer) -> None:
        """A player, who learns at once what is being said."""
        self.viewers.add(viewer)
        for event in self._utterance:
            viewer.tell(event)

    async def _answer(self, text: str) -> None:
        said = ""
        try:
            async for piece in self._partner.answer(self.session_id, text):
                said += piece
                self.tell({"event": "answer", "text": piece})
                await self.text(piece)
            await self.end()
        except WarmtalkError as error:
            self.tell(error_event(error))
        except Exception as error:  # noqa: BLE001 - a task of its own: the players must learn of it
            self.tell(error_event(unexpected(error)))
        finally:
            self._partner.remember(self.session_id, text, said)
            self.tell({"event": "answered"})

    async def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
            self._asking = None

    async def _write(self, message: session_pb2.ConverseRequest) -> None:
        async with self._writing:
            if self.ended is not None:
                raise self.ended
            try:
                await self._call.write(message)
            except (grpc.RpcError, asyncio.InvalidStateError) as error:
                # the call has ended: the reader knows why
                if self._reading is not None:
                    await asyncio.wait({self._reading})
                raise self.ended or Interrupted("the live video has ended", "Connect again") from error

    async def _read(self) -> None:
        try:
            async for response in self._call:
                await self._take(response.event)
            self.ended = Interrupted("the live video has ended", "Connect again")
        except grpc.RpcError as error:
            self.ended = from_rpc(error, "session")
        except asyncio.CancelledError:
            self.ended = Interrupted("the live video has ended", "Connect again")
        except WarmtalkError as error:
            self.ended = error
        except Exception as error:  # noqa: BLE001 - a task of its own: the players must learn of it
            self.ended = unexpected(error)
        finally:
            self._call.cancel()
            self._ready.set()
            self._changed.set()

    async def _take(self, event: session_pb2.SpeakResponse) -> None:
        match event.WhichOneof("event"):
            case "opened":
                view = event_view(self.session_id, event)
                self.opened = {**view, "stream": self.stream_id}
            case "fragment":
                await self._add(event.fragment)
            case _:
                self.tell(event_view(self.session_id, event))

    async def _add(self, fragment: Any) -> None:
        if fragment.sequence == 0:
            self.head = fragment.data
            self._ready.set()
            return
        start, length = (one.ToTimedelta().total_seconds() for one in (fragment.start, fragment.duration))
        self.ring.add(BufferedFragment(fragment.sequence, start, length, fragment.key_frame, fragment.data))
        self._changed.set()
        while self.viewers and all(self.ring.last - one.sequence > _AHEAD for one in self.viewers):
            self._room.clear()
            try:
                async with asyncio.timeout(_GIVE_UP_S):
                    await self._room.wait()
            except TimeoutError as error:
                self.ring.clear()
                raise Interrupted("no player has read the live video for a minute", "Connect again") from error
