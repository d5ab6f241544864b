"""Live conversations through the front door: a real server, real codecs, PyAV reads; infer and voice are fakes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fakes import make_avatar
from tests.media import Film, read
from tests.rpc.test_session import Desk, film
from tests.sounds import syllables
from warmtalk.core.types import Samples
from warmtalk.v1 import session_pb2 as pb

Code = grpc.StatusCode


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

    def __init__(self, desk: Desk, **config: object) -> None:
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
        async with asyncio.timeout(20):
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


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    make_avatar(tmp_path / "avatars")
    made = Desk(tmp_path)
    await made.start()
    await made.create()
    yield made
    await made.close()


# --- what it is for ------------------------------------------------------------------------------------------------


async def test_idle_speech_idle(desk: Desk, tmp_path: Path) -> None:
    async with Client(desk) as client:
        await asyncio.sleep(0.4)
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.4)
        await client.end()
    assert client.kinds() == ["opened", "accepted", "started", "clip_ready", "conversation_updated", "finished"]
    opened = client.of("opened")[0].opened
    assert (opened.width, opened.height, opened.frame_rate.numerator) == (96, 64, 25)
    assert opened.mime_type.startswith("video/mp4; codecs=")
    fragments = [event.fragment for event in client.of("fragment")]
    assert [one.sequence for one in fragments] == list(range(len(fragments)))
    for a, b in itertools.pairwise(fragments[1:]):
        assert seconds(a.start) + seconds(a.duration) == pytest.approx(seconds(b.start), abs=1e-5)
    start = seconds(client.of("started")[0].started.stream_start)
    spoken = [one for one in fragments if one.speech]
    assert seconds(spoken[0].start) <= start < seconds(spoken[0].start) + seconds(spoken[0].duration)

    shown = client.file(tmp_path / "live.mp4")
    assert shown.times == [pytest.approx(k / 25) for k in range(len(shown.times))]
    first = round(start * 25)
    lights = [int(picture[24, 24].mean()) for picture in shown.pictures]
    index = desk.fake.configs[0].start_index
    assert lights[first + 4 : first + 25] == [pytest.approx(50 + index + k, abs=8) for k in range(4, 25)]
    loud = np.flatnonzero(np.abs(shown.pcm) > 0.06) / 48_000
    assert loud[0] == pytest.approx(start + 0.01, abs=0.03)
    assert loud[-1] < start + 1.01


async def test_clip_is_what_was_shown(desk: Desk) -> None:
    async with Client(desk) as client:
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.2)
        await client.say(syllables(0.6))
        await client.until("finished", 2)
    conversation = await desk.conversation()
    first, second = (film(clip.uri) for clip in conversation.clips)
    assert len(first.pictures) == 25 + 6 + 4, "the speech, its tail, the mouth closing"
    assert len(second.pictures) > 15 + 10, "idle pictures in front"
    assert len(second.pictures) <= 15 + 10 + 15
    whole = film(conversation.uri)
    assert np.array_equal(whole.pcm, np.concatenate([first.pcm, second.pcm]))
    assert conversation.samples == conversation.frames * 1920
    assert whole.times == [pytest.approx(k / 25) for k in range(conversation.frames)]


async def test_text_in_pieces(desk: Desk) -> None:
    async with Client(desk) as client:
        for piece in ("Hel", "lo the", "re, my friend. How", " are you? Fi", "ne."):
            await client.send(text=piece)
        await client.until("started")
        assert desk.voice.said[:1] == ["Hello there, my friend."], "before the text has ended"
        await client.send(end=pb.EndOfUtterance())
        await client.until("finished")
    assert desk.voice.said == ["Hello there, my friend.", "How are you?", "Fine."]
    assert [clip.text for clip in (await desk.conversation()).clips] == ["Hello there, my friend. How are you? Fine."]
