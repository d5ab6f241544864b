"""Client of Converse for the tests of live conversations."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
from google.protobuf.duration_pb2 import Duration

from tests.media import DecodedVideo, decode_video
from tests.rpc.session.harness import SessionHarness
from warmtalk.core.types import Samples
from warmtalk.v1 import session_pb2 as pb


def pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def seconds(duration: Duration) -> float:
    value: float = duration.ToTimedelta().total_seconds()
    return value


def to_duration(value: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration


class ConverseClient:
    """One Converse: writes the messages of a test, reads all the time and keeps every event with its time."""

    def __init__(self, service: SessionHarness, **config: object) -> None:
        self.events: list[tuple[float, pb.SpeakResponse]] = []
        self.call = service.stub.Converse()
        self._config = pb.ConverseConfig(session_id="s1", **config)  # type: ignore[arg-type]
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ConverseClient:
        await self.send(config=self._config)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def send(self, **message: object) -> None:
        """Sends one message."""
        await self.call.write(pb.ConverseRequest(**message))  # type: ignore[arg-type]

    async def send_speech(self, audio: Samples, rate_hz: int = 16_000, chunk_s: float = 0.1) -> None:
        """Sends audio in chunks, then the end of the utterance."""
        step = int(chunk_s * rate_hz)
        for k in range(0, len(audio), step):
            await self.send(pcm_s16le=pcm(audio[k : k + step]))
        await self.send(end=pb.EndOfUtterance())

    async def wait_for(self, kind: str, count: int = 1) -> pb.SpeakResponse:
        """Returns the `count`-th event of this kind, once the event has come."""
        async with asyncio.timeout(60):  # long, because clips are finished at low priority
            while len(events := self.events_of(kind)) < count:
                assert self._reader is not None
                if self._reader.done():
                    self._reader.result()
                    raise AssertionError(f"the stream ended without {kind}: {self.event_names()}")
                self._changed.clear()
                await self._changed.wait()
        return events[count - 1]

    async def finish(self) -> None:
        """Ends the input and reads to the end of the stream. Raises the status."""
        await self.call.done_writing()
        assert self._reader is not None
        await asyncio.wait_for(self._reader, 30)

    def events_of(self, kind: str) -> list[pb.SpeakResponse]:
        return [event for _, event in self.events if event.WhichOneof("event") == kind]

    def event_names(self) -> list[str]:
        return [kind for _, event in self.events if (kind := event.WhichOneof("event") or "") != "fragment"]

    def decode(self, path: Path) -> DecodedVideo:
        path.write_bytes(b"".join(event.fragment.data for event in self.events_of("fragment")))
        return decode_video(path)

    async def _read(self) -> None:
        try:
            async for response in self.call:
                self.events.append((time.monotonic(), response.event))
                self._changed.set()
        finally:
            self._changed.set()
