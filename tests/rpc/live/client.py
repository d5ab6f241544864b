"""A client of Converse, for the tests of live conversations."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
from google.protobuf.duration_pb2 import Duration

from tests.media import Film, read
from tests.rpc.session.harness import SessionHarness
from warmtalk.core.types import Samples
from warmtalk.v1 import session_pb2 as pb


def pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def seconds(duration: Duration) -> float:
    value: float = duration.ToTimedelta().total_seconds()
    return value


def lasting(value: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration


class Client:
    """One Converse: writes what a test says, reads all the time and remembers it with its time."""

    def __init__(self, desk: SessionHarness, **config: object) -> None:
        self.events: list[tuple[float, pb.SpeakResponse]] = []
        self.call = desk.stub.Converse()
        self._config = pb.ConverseConfig(session_id="s1", **config)  # type: ignore[arg-type]
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        await self.send(config=self._config)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def send(self, **message: object) -> None:
        await self.call.write(pb.ConverseRequest(**message))  # type: ignore[arg-type]

    async def say(self, sound: Samples, rate: int = 16_000, piece: float = 0.1) -> None:
        step = int(piece * rate)
        for k in range(0, len(sound), step):
            await self.send(pcm_s16le=pcm(sound[k : k + step]))
        await self.send(end=pb.EndOfUtterance())

    async def until(self, kind: str, count: int = 1) -> pb.SpeakResponse:
        """The count-th event of this kind."""
        async with asyncio.timeout(60):  # finds a hang; the clip waits for whoever else wants the processor
            while len(found := self.of(kind)) < count:
                assert self._reader is not None
                if self._reader.done():
                    self._reader.result()
                    raise AssertionError(f"the stream ended without {kind}: {self.kinds()}")
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]

    async def end(self) -> None:
        """Says that all was said and reads to the end. Raises the status."""
        await self.call.done_writing()
        assert self._reader is not None
        await asyncio.wait_for(self._reader, 30)

    def of(self, kind: str) -> list[pb.SpeakResponse]:
        return [event for _, event in self.events if event.WhichOneof("event") == kind]

    def kinds(self) -> list[str]:
        return [kind for _, event in self.events if (kind := event.WhichOneof("event") or "") != "fragment"]

    def file(self, path: Path) -> Film:
        path.write_bytes(b"".join(event.fragment.data for event in self.of("fragment")))
        return read(path)

    async def _read(self) -> None:
        try:
            async for response in self.call:
                self.events.append((time.monotonic(), response.event))
                self._changed.set()
        finally:
            self._changed.set()
