"""Conversations that share MuseTalk: rendered in one batch, each as if alone; refused when the device has no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import Busy, Damaged, WarmtalkError
from warmtalk.core.pipeline import RenderModel, WarmAvatar, render
from warmtalk.core.ports import FaceJob
from warmtalk.core.types import FrameClock, Image, Patch, Samples
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.renderer import MuseTalkAvatar, MuseTalkRenderer
from warmtalk.models.musetalk.speech_features import WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder
from warmtalk.services.infer.avatar_cache import AvatarCache
from warmtalk.services.infer.engine import Engine
from warmtalk.services.infer.stream import StreamConfig
from warmtalk.store import AvatarStore


class RecordingRenderer(MuseTalkRenderer):
    """Records the sizes of batches."""

    def __init__(self, networks: MuseTalk) -> None:
        super().__init__(networks)
        self.sizes: list[int] = []

    def submit_batch(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> Callable[[], list[Image | WarmtalkError]]:
        self.sizes.append(len(jobs))
        return super().submit_batch(jobs)


@pytest.fixture
def recorder(networks: MuseTalk) -> RecordingRenderer:
    return RecordingRenderer(networks)


@pytest.fixture
async def engine(recorder: RecordingRenderer, encoder: WhisperEncoder, avatars: Path) -> AsyncIterator[Engine]:
    cache = AvatarCache(AvatarStore(avatars), 1 << 30)
    one = Engine({"musetalk": RenderModel(WhisperFeatures(encoder), recorder)}, cache, max_streams=8)
    yield one
    await one.close()


def config(start_index: int = 0) -> StreamConfig:
    return StreamConfig("synth", "", FrameClock(Fraction(25)), start_index, batch_frames=4, credit=64)


async def rendered(engine: Engine, audio: Samples, start_index: int = 0) -> list[Patch]:
    stream = await engine.open(config(start_index))
    await stream.push_audio(audio)
    stream.end_audio()
    return [patch async for batch in stream.batches() for patch in batch]


async def test_conversations_share_batches_and_get_the_frames_of_a_single_conversation(
    engine: Engine, recorder: RecordingRenderer, encoder: WhisperEncoder, avatars: Path, speech: Samples
) -> None:
    clips = [speech[start : start + 3200] for start in (0, 6000, 9000)]
    shared = await asyncio.gather(*(rendered(engine, audio, start) for start, audio in enumerate(clips)))
    assert max(recorder.sizes) > 4  # the limit of one conversation
    avatar = WarmAvatar(Bundle(avatars / "synth"), recorder)
    for start, (audio, patches) in enumerate(zip(clips, shared, strict=True)):
        alone = list(render(avatar, WhisperFeatures(encoder), [audio], FrameClock(), start_index=start))
        assert [(patch.frame, patch.row, patch.box) for patch in patches] == [
            (patch.frame, patch.row, patch.box) for patch in alone
        ]
        assert max(np.abs(a.pixels.astype(int) - b.pixels).max() for a, b in zip(patches, alone, strict=True)) <= 1


async def test_a_face_that_is_not_finite_ends_its_own_conversation_only(engine: Engine, speech: Samples) -> None:
    broken = speech[:3200].copy()
    broken[1000] = np.nan
    good, bad = await asyncio.gather(rendered(engine, speech[:3200]), rendered(engine, broken), return_exceptions=True)
    assert isinstance(bad, Damaged)
    assert isinstance(good, list)
    assert [patch.frame for patch in good] == list(range(5))


async def test_one_more_than_the_device_can_serve_is_refused(engine: Engine, recorder: RecordingRenderer) -> None:
    assert engine.capacity == 8
    recorder.faces_per_second = 60.0
    assert engine.capacity == 2
    held = [await engine.open(config()) for _ in range(2)]
    with pytest.raises(Busy, match="60 faces per second serve the 2 open streams") as caught:
        await engine.open(config())
    assert caught.value.retry_after_s > 0
    held[0].close()
    (await engine.open(config())).close()
    held[1].close()
    recorder.faces_per_second = 0.4  # a CPU: the first stream is accepted, at the speed of the CPU
    (await engine.open(config())).close()


async def test_an_abort_does_not_affect_other_streams(engine: Engine, speech: Samples) -> None:
    leaving = await engine.open(config())
    await leaving.push_audio(speech)
    other = asyncio.create_task(rendered(engine, speech[:3200]))
    leaving.abort()
    assert len(await other) == 5
    leaving.close()
    assert engine.open_streams == 0


def test_measure_stores_the_throughput(networks: MuseTalk) -> None:
    small = MuseTalkRenderer(networks, max_batch=2)
    small.measure()
    assert small.faces_per_second > 0
