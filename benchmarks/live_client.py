"""One client of a live conversation: sends sound, remembers when what came."""

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
_PIECE_S = 0.1
_FASTER = 3.0
"""How much faster than real time sound is sent."""


@dataclass(slots=True)
class Arrived:
    at: float
    """time.perf_counter()."""
    fragment: pb.MediaFragment


@dataclass(slots=True)
class Client:
    """Reads in a task of its own; fragments are one frame each, so that every frame is timed."""

    stub: SessionServiceAsyncStub
    session_id: str
    fragments: list[Arrived] = field(default_factory=list)
    first_fragment_ms: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """Stream seconds at which each utterance began."""
    finished: int = 0
    rates: list[int] = field(default_factory=list)
    interrupted: int = 0
    _call: Any = None
    _task: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: float = 0.0
    keep_data: bool = True

    async def open(self, fragment_ms: int = 40) -> None:
        self._call = self.stub.Converse()
        length = Duration(nanos=fragment_ms * 1_000_000)
        config = pb.ConverseConfig(session_id=self.session_id, sample_rate_hz=RATE_HZ, fragment_duration=length)
        await self._call.write(pb.ConverseRequest(config=config))
        self._task = asyncio.create_task(self._read())

    async def talk(self, sound: npt.NDArray[np.int16]) -> None:
        """Sends the sound and waits until it was shown."""
        before = self.finished
        await self.send(sound)
        while self.finished == before:
            self._changed.clear()
            await self._changed.wait()

    async def send(self, sound: npt.NDArray[np.int16]) -> None:
        self._asked = time.perf_counter()
        step = int(RATE_HZ * _PIECE_S)
        for number, place in enumerate(range(0, len(sound), step)):
            due = self._asked + number * _PIECE_S / _FASTER
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._call.write(pb.ConverseRequest(pcm_s16le=sound[place : place + step].tobytes()))
        await self._call.write(pb.ConverseRequest(end=pb.EndOfUtterance()))

    async def interrupt_ms(self) -> float:
        """From the call to the closed mouth on the screen of a player that plays what comes as it comes."""
        begin = time.perf_counter()
        before = self.finished
        await self._call.write(pb.ConverseRequest(interrupt=pb.InterruptNow()))
        while self.finished == before:
            self._changed.clear()
            await self._changed.wait()
        await asyncio.sleep(0.5)
        played_s = begin - self.fragments[1].at
        spoken = [one.fragment for one in self.fragments if one.fragment.speech]
        closed_s = seconds(spoken[-1].start) + seconds(spoken[-1].duration)
        return (closed_s - played_s) * 1000

    async def close(self) -> None:
        await self._call.done_writing()
        assert self._task is not None
        await self._task

    async def drop(self) -> None:
        """Hangs up in the middle."""
        self._call.cancel()
        assert self._task is not None
        await asyncio.gather(self._task, return_exceptions=True)

    def forget(self) -> None:
        """Lets go of the data before the last key frame, but for the head."""
        keys = [number for number, one in enumerate(self.fragments) if one.fragment.key_frame]
        for one in self.fragments[1 : keys[-1] if keys else 1]:
            one.fragment.data = b""

    def gaps_ms(self) -> list[float]:
        """Between two frames as they come."""
        times = [one.at for one in self.fragments[2:]]
        return [(b - a) * 1000 for a, b in itertools.pairwise(times)]

    def data(self) -> bytes:
        return b"".join(one.fragment.data for one in self.fragments)

    async def _read(self) -> None:
        async for response in self._call:
            event = response.event
            match event.WhichOneof("event"):
                case "fragment":
                    self._take(event.fragment)
                case "started":
                    self.starts.append(seconds(event.started.stream_start))
                case "frame_rate_changed":
                    self.rates.append(event.frame_rate_changed.frame_rate.numerator)
                case "finished":
                    self.finished += 1
            self._changed.set()

    def _take(self, fragment: pb.MediaFragment) -> None:
        now = time.perf_counter()
        if fragment.speech and self._asked:
            self.first_fragment_ms.append((now - self._asked) * 1000)
            self._asked = 0.0
        if not self.keep_data and fragment.sequence:
            fragment.data = b""
        self.fragments.append(Arrived(now, fragment))


def seconds(duration: Duration) -> float:
    seconds: float = duration.ToTimedelta().total_seconds()
    return seconds
