"""Client of a live conversation that sends audio and records the arrival time of every fragment."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration

from warmtalk.v1 import session_pb2 as pb

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

RATE_HZ = 16_000
_CHUNK_S = 0.1
_SPEED = 3.0
"""Speed at which audio is sent, as a multiple of real time."""


@dataclass(slots=True)
class TimedFragment:
    """A fragment and the time of arrival."""

    at: float
    """Time by time.perf_counter()."""
    fragment: pb.MediaFragment


@dataclass(slots=True)
class LiveClient:
    """One Converse. A task reads all events; fragments hold one frame each, so that every frame is timed."""

    stub: SessionServiceAsyncStub
    session_id: str
    fragments: list[TimedFragment] = field(default_factory=list)
    first_fragment_ms: list[float] = field(default_factory=list)
    """Time from the first audio of each utterance to the first fragment of speech."""
    starts: list[float] = field(default_factory=list)
    """Stream position in seconds at which each utterance began."""
    finished: int = 0
    """Number of finished utterances."""
    rates: list[int] = field(default_factory=list)
    """Frame rates to which the stream changed."""
    _call: Any = None
    _task: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _sent_at: float = 0.0
    """Time of the first audio of an utterance whose first fragment has not arrived; else 0."""
    keep_data: bool = True
    """False drops the data of every fragment but the head."""

    async def open(self, fragment_ms: int = 40) -> None:
        """Starts the stream."""
        self._call = self.stub.Converse()
        length = Duration(nanos=fragment_ms * 1_000_000)
        config = pb.ConverseConfig(session_id=self.session_id, sample_rate_hz=RATE_HZ, fragment_duration=length)
        await self._call.write(pb.ConverseRequest(config=config))
        self._task = asyncio.create_task(self._read())

    async def speak(self, pcm: npt.NDArray[np.int16]) -> None:
        """Sends the audio of one utterance and waits until the utterance has finished."""
        finished_before = self.finished
        await self.send(pcm)
        await self._wait_finished(finished_before)

    async def send(self, pcm: npt.NDArray[np.int16]) -> None:
        """Sends the audio of one utterance at three times real time."""
        self._sent_at = start = time.perf_counter()
        step = int(RATE_HZ * _CHUNK_S)
        for number, offset in enumerate(range(0, len(pcm), step)):
            due = start + number * _CHUNK_S / _SPEED
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._call.write(pb.ConverseRequest(pcm_s16le=pcm[offset : offset + step].tobytes()))
        await self._call.write(pb.ConverseRequest(end=pb.EndOfUtterance()))

    async def interrupt_ms(self) -> float:
        """Interrupts and returns the time to the closed mouth, on a player that shows frames as they arrive."""
        start = time.perf_counter()
        finished_before = self.finished
        await self._call.write(pb.ConverseRequest(interrupt=pb.InterruptNow()))
        await self._wait_finished(finished_before)
        await asyncio.sleep(0.5)
        played_s = start - self.fragments[1].at
        speech = [one.fragment for one in self.fragments if one.fragment.speech]
        closed_s = seconds(speech[-1].start) + seconds(speech[-1].duration)
        return (closed_s - played_s) * 1000

    async def close(self) -> None:
        """Ends the input and reads to the end of the stream."""
        await self._call.done_writing()
        assert self._task is not None
        await self._task

    async def drop(self) -> None:
        """Cancels the call in the middle of the stream."""
        self._call.cancel()
        assert self._task is not None
        await asyncio.gather(self._task, return_exceptions=True)

    def discard_old_data(self) -> None:
        """Drops the data before the last key frame, except the head."""
        keyframes = [number for number, one in enumerate(self.fragments) if one.fragment.key_frame]
        for one in self.fragments[1 : keyframes[-1] if keyframes else 1]:
            one.fragment.data = b""

    def gaps_ms(self) -> list[float]:
        """Returns the time between consecutive frames as they arrived."""
        times = [one.at for one in self.fragments[2:]]
        return [(after - before) * 1000 for before, after in itertools.pairwise(times)]

    def data(self) -> bytes:
        """Returns the received video."""
        return b"".join(one.fragment.data for one in self.fragments)

    async def _wait_finished(self, finished_before: int) -> None:
        while self.finished == finished_before:
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> None:
        async for response in self._call:
            event = response.event
            match event.WhichOneof("event"):
                case "fragment":
                    self._add_fragment(event.fragment)
                case "started":
                    self.starts.append(seconds(event.started.stream_start))
                case "frame_rate_changed":
                    self.rates.append(event.frame_rate_changed.frame_rate.numerator)
                case "finished":
                    self.finished += 1
            self._changed.set()

    def _add_fragment(self, fragment: pb.MediaFragment) -> None:
        now = time.perf_counter()
        if fragment.speech and self._sent_at:
            self.first_fragment_ms.append((now - self._sent_at) * 1000)
            self._sent_at = 0.0
        if not self.keep_data and fragment.sequence:
            fragment.data = b""
        self.fragments.append(TimedFragment(now, fragment))


def seconds(duration: Duration) -> float:
    """Returns a duration message in seconds."""
    value: float = duration.ToTimedelta().total_seconds()
    return value
