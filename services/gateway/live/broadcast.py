"""One Converse call per session, fanned out to any number of viewers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from warmtalk.core.errors import Busy, Interrupted, WarmtalkError
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.event_json import event_object, seconds
from warmtalk.services.gateway.live.chat_answer import ChatAnswer
from warmtalk.services.gateway.live.converse_call import ConverseCall
from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer
from warmtalk.v1 import session_pb2

LINGER_S = 10.0
"""Life of a stream without viewers, so that a reloaded page finds the stream again."""
_MAX_LAG = 100
"""Fragments by which even the fastest viewer may lag; beyond, the stream is not read, which slows the renderer."""
_IDLE_TIMEOUT_S = 60.0
"""If no viewer reads a fragment for this long, the stream is closed."""
_MAX_EVENTS = 256
_REPLAYED = {"answer", "accepted", "started"}
"""Events of the current utterance to repeat for a viewer joining in the middle."""
_OPEN_TIMEOUT_S = 20.0


class Viewer:
    """A viewer's position in the stream and queue of unseen events. A full queue drops the oldest event."""

    def __init__(self, broadcast: Broadcast, sequence: int, begin_s: float = 0.0, *, resumed: bool = False) -> None:
        """The viewer has, or does not need, the fragments up to `sequence`. Unless `resumed`, the viewer starts with
        the initialization segment and shows video from stream second `begin_s`.
        """
        self.broadcast = broadcast
        self.sequence = sequence
        self.begin_s = begin_s
        self.resumed = resumed
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MAX_EVENTS)

    def push_event(self, event: dict[str, Any]) -> None:
        """Appends an event to the queue."""
        if self.events.full():
            self.events.get_nowait()
        self.events.put_nowait(event)

    async def fragments(self) -> AsyncIterator[BufferedFragment]:
        """Yields the fragments after the viewer's position until the stream ends."""
        while True:
            fragment = self.broadcast.replay.next_after(self.sequence)
            if fragment is None:
                if self.broadcast.end_reason is not None:
                    return
                await self.broadcast.wait_for_fragment()
                continue
            yield fragment
            self.sequence = fragment.sequence
            self.broadcast.note_fragment_taken()


class Broadcast:
    """Live stream of a session. Started by `start`; `end_reason` is set when the stream ends. For one event loop."""

    def __init__(self, backend: Backend, chat: ChatClient, session_id: str) -> None:
        self.session_id = session_id
        self.stream_id = uuid.uuid4().hex[:12]
        self.replay = ReplayBuffer()
        self.init_segment = b""
        """Initialization segment (ftyp, moov) before the fragments; available once started."""
        self.opened_event: dict[str, Any] = {}
        """First event for each viewer: MIME type, size, rate and stream id."""
        self.call = ConverseCall(backend, session_id, self._handle_event, self._handle_end)
        self.answer = ChatAnswer(chat, session_id, self.call, self.publish)
        self._viewers: set[Viewer] = set()
        self._utterance_events: list[dict[str, Any]] = []
        self._ready = asyncio.Event()
        self._fragment_added = asyncio.Event()
        self._fragment_taken = asyncio.Event()

    @property
    def end_reason(self) -> WarmtalkError | None:
        """Error that ended the stream; None while the stream runs."""
        return self.call.end_reason

    @property
    def watched(self) -> bool:
        """True while the stream has a viewer."""
        return bool(self._viewers)

    async def start(self) -> None:
        """Returns when viewers can join. Raises the error of the session service (NotFound, Busy, Unreachable, ...),
        or Busy without an initialization segment after 20 s.
        """
        with suppress(WarmtalkError, TimeoutError):
            await self.call.start()
            await asyncio.wait_for(self._ready.wait(), _OPEN_TIMEOUT_S)
        if not self.opened_event:
            self.call.cancel()
            raise self.end_reason or Busy(f"the live video of session {self.session_id!r} does not start", "Try again")

    async def end(self) -> None:
        """Ends the stream after the current speech, at the latest after `LINGER_S`."""
        await self.answer.cancel()
        await self.call.finish(LINGER_S)

    async def interrupt(self, position_s: float | None) -> None:
        """Stops the current answer and speech, see `ConverseCall.interrupt`."""
        await self.answer.cancel()
        await self.call.interrupt(position_s)

    def add_viewer(self, after: int | None, position_s: float | None) -> Viewer:
        """Returns a new viewer that already has the events of the current utterance.

        The viewer resumes after the fragment `after` if the buffer allows, else starts at `position_s` or, without a
        position, at the newest key frame.
        """
        if after is not None and self.replay.can_resume_after(after):
            viewer = Viewer(self, after, resumed=True)
        else:
            sequence, begin_s = self.replay.start_point(position_s)
            viewer = Viewer(self, sequence, begin_s)
        self._viewers.add(viewer)
        for event in self._utterance_events:
            viewer.push_event(event)
        return viewer

    def remove_viewer(self, viewer: Viewer) -> None:
        """Removes a viewer; safe to repeat."""
        self._viewers.discard(viewer)
        self.note_fragment_taken()

    def publish(self, event: dict[str, Any]) -> None:
        """Sends an event to every viewer and keeps the event for viewers joining during the utterance."""
        if event["event"] in _REPLAYED:
            self._utterance_events.append(event)
            del self._utterance_events[:-_MAX_EVENTS]
        elif event["event"] == "finished":
            self._utterance_events.clear()
        for viewer in self._viewers:
            viewer.push_event(event)

    async def wait_for_fragment(self) -> None:
        """Returns at the next fragment or at the end of the stream."""
        self._fragment_added.clear()
        await self._fragment_added.wait()

    def note_fragment_taken(self) -> None:
        """Resumes reading from the session service, if paused because all viewers lagged."""
        self._fragment_taken.set()

    async def _handle_event(self, event: session_pb2.SpeakResponse) -> None:
        match event.WhichOneof("event"):
            case "opened":
                self.opened_event = {**event_object(self.session_id, event), "stream": self.stream_id}
            case "fragment":
                await self._add_fragment(event.fragment)
            case _:
                self.publish(event_object(self.session_id, event))

    def _handle_end(self) -> None:
        self._ready.set()
        self._fragment_added.set()

    async def _add_fragment(self, fragment: session_pb2.MediaFragment) -> None:
        if fragment.sequence == 0:
            self.init_segment = fragment.data
            self._ready.set()
            return
        start_s, duration_s = seconds(fragment.start), seconds(fragment.duration)
        self.replay.append(BufferedFragment(fragment.sequence, start_s, duration_s, fragment.key_frame, fragment.data))
        self._fragment_added.set()
        while self._viewers and self._min_lag() > _MAX_LAG:
            self._fragment_taken.clear()
            try:
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    await self._fragment_taken.wait()
            except TimeoutError as error:
                self.replay.clear()
                raise Interrupted("no viewer has read the live video for a minute", "Connect again") from error

    def _min_lag(self) -> int:
        """Returns the number of fragments by which the fastest viewer lags; needs a viewer."""
        return self.replay.last_sequence - max(viewer.sequence for viewer in self._viewers)
