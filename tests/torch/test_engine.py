"""Conversations that share MuseTalk: drawn in one batch, each as if it were alone; refused when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.torch.conftest import CPU
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import Busy, Damaged, WarmtalkError
from warmtalk.core.pipeline import RenderModel, WarmAvatar, render
from warmtalk.core.ports import FaceJob
from warmtalk.core.types import FrameClock, Image, Patch, Samples
from warmtalk.models.musetalk.renderer import MuseTalkAvatar, MuseTalkRenderer
from warmtalk.models.musetalk.speech_features import WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder
from warmtalk.services.infer.avatar_cache import AvatarCache
from warmtalk.services.infer.engine import Engine
from warmtalk.services.infer.stream import StreamConfig
from warmtalk.store import AvatarStore


class Watched(MuseTalkRenderer):
    """Notes the sizes of its batches; the face of a job with a sound of NaN fails, as a real one's would."""

    def __init__(self, real: MuseTalkRenderer) -> None:
        super().__init__(real._networks)
        self.sizes: list[int] = []

    def submit_batch(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> Callable[[], list[Image | WarmtalkError]]:
        self.sizes.append(len(jobs))
        return super().submit_batch(jobs)


@pytest.fixture
def watched(renderer: MuseTalkRenderer) -> Watched:
    return Watched(renderer)


@pytest.fixture
async def engine(watched: Watched, encoder: WhisperEncoder, avatars: Path) -> AsyncIterator[Engine]:
    cache = AvatarCache(AvatarStore(avatars), 1 << 30)
    one = Engine({"musetalk": RenderModel(WhisperFeatures(encoder, CPU), watched)}, cache, max_streams=8)
    yield one
    await one.close()


def config(start_index: int = 0) -> StreamConfig:
    return StreamConfig("synth", "", FrameClock(Fraction(25)), start_index, batch_frames=4, credit=64)


async def spoken(engine: Engine, sound: Samples, start_index: int = 0) -> list[Patch]:
    stream = await engine.open(config(start_index))
    await stream.push_audio(sound)
    stream.end_audio()
    return [patch async for batch in stream.batches() for patch in batch]


async def test_many_conversations_are_drawn_together_and_each_as_if_alone(
    engine: Engine, watched: Watched, encoder: WhisperEncoder, avatars: Path, speech: Samples
) -> None:
    sounds = [speech[at : at + 3200] for at in (0, 6000, 9000)]
    found = await asyncio.gather(*(spoken(engine, sound, start) for start, sound in enumerate(sounds)))
    assert max(watched.sizes) > 4  # more than one conversation may give alone
    alone = WarmAvatar(Bundle(avatars / "synth"), watched)
    for start, (sound, patches) in enumerate(zip(sounds, found, strict=True)):
        wanted = list(render(alone, WhisperFeatures(encoder, CPU), [sound], FrameClock(), start_index=start))
        assert [(patch.frame, patch.row, patch.box) for patch in patches] == [
            (patch.frame, patch.row, patch.box) for patch in wanted
        ]
        assert max(np.abs(a.pixels.astype(int) - b.pixels).max() for a, b in zip(patches, wanted, strict=True)) <= 1


async def test_a_face_that_is_not_finite_ends_its_own_conversation_only(engine: Engine, speech: Samples) -> None:
    poison = speech[:3200].copy()
    poison[1000] = np.nan
    good, bad = await asyncio.gather(spoken(engine, speech[:3200]), spoken(engine, poison), return_exceptions=True)
    assert isinstance(bad, Damaged)
    assert isinstance(good, list)
    assert [patch.frame for patch in good] == list(range(5))


async def test_one_more_than_the_device_can_serve_is_refused(engine: Engine, watched: Watched) -> None:
    assert engine.capacity == 8
    watched.faces_per_second = 60.0
    assert engine.capacity == 2
    held = [await engine.open(config()) for _ in range(2)]
    with pytest.raises(Busy, match="60 faces per second serve the 2 open streams") as caught:
        await engine.open(config())
    assert caught.value.retry_after_s > 0
    held[0].close()
    (await engine.open(config())).close()
    held[1].close()
    watched.faces_per_second = 0.4  # a CPU: the first is served all the same, as fast as it goes
    (await engine.open(config())).close()


async def test_an_abort_leaves_the_others_in_peace(engine: Engine, speech: Samples) -> None:
    leaving = await engine.open(config())
    await leaving.push_audio(speech)
    other = asyncio.create_task(spoken(engine, speech[:3200]))
    leaving.abort()
    assert len(await other) == 5
    leaving.close()
    assert engine.open_streams == 0


def test_measuring_notes_a_rate(renderer: MuseTalkRenderer) -> None:
    small = MuseTalkRenderer(renderer._networks, max_batch=2)
    small.measure()
    assert small.faces_per_second > 0
