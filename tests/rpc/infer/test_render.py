"""Render: audio in, frames out, equal to the offline path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.rpc.infer.harness import END, LATENCY_FRAMES, Infer, audio, start
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.core.pipeline import WarmAvatar, render
from warmtalk.core.types import FrameClock, Samples, cycle_row
from warmtalk.renderers import loading
from warmtalk.v1.infer_pb2 import RenderCredit, RenderRequest, RenderResponse


async def test_the_live_path_gives_the_frames_of_the_offline_path(infer: Infer, avatars: Path, speech: Samples) -> None:
    chunks = [speech[offset : offset + 777] for offset in range(0, len(speech), 777)]
    live = await infer.patches(start(start_index=40), *map(audio, chunks), END)
    model = loading.load("mesh", Config())
    avatar = WarmAvatar(Bundle(avatars / "eileen"), model.renderer)
    offline = list(render(avatar, model.encoder, [speech], FrameClock(), start_index=40))
    assert len(live) == len(offline) == 50
    for a, b in zip(live, offline, strict=True):
        assert (a.frame, a.row, a.box) == (b.frame, b.row, b.box)
        assert np.array_equal(a.pixels, b.pixels)
    assert [patch.row for patch in live] == [cycle_row(40 + frame, 25) for frame in range(50)]


async def test_the_mouth_moves_with_speech_and_rests_in_silence(infer: Infer, speech: Samples) -> None:
    silence = np.zeros_like(speech)
    spoken = await infer.patches(start(), audio(speech), END)
    quiet = await infer.patches(start(), audio(silence), END)
    moved = [float(np.abs(a.pixels.astype(int) - b.pixels).mean()) for a, b in zip(spoken, quiet, strict=True)]
    assert max(moved[:30]) > 2.0
    assert max(moved[-5:]) == 0.0


async def test_frames_arrive_before_the_audio_is_complete(infer: Infer, speech: Samples) -> None:
    more = asyncio.Event()

    async def requests() -> AsyncIterator[RenderRequest]:
        yield start()
        yield audio(speech[:16_000])
        await more.wait()
        yield audio(speech[16_000:])
        yield END

    call = infer.stub.Render(requests())
    frames = 0
    async with asyncio.timeout(10):
        async for answer in call:
            frames += len(answer.batch.patches)
            if frames >= 25 - LATENCY_FRAMES:
                more.set()
    assert frames == 50


async def test_the_first_message_describes_the_stream_and_the_last_counts_frames(infer: Infer, speech: Samples) -> None:
    answers = await infer.answers(start(), audio(speech), END)
    started = answers[0].started
    assert (started.renderer, started.width, started.height, started.source_frames) == ("mesh", 512, 512, 25)
    assert len(answers[1].batch.patches) == 1
    assert answers[-1].finished.frames == 50
    assert not answers[-1].finished.aborted


async def test_nothing_is_sent_without_credit(infer: Infer, speech: Samples) -> None:
    go = asyncio.Event()

    async def requests() -> AsyncIterator[RenderRequest]:
        yield start(initial_credit_frames=7)
        yield audio(speech)
        yield END
        await go.wait()
        yield RenderRequest(credit=RenderCredit(frames=100))

    got: list[RenderResponse] = []

    async def collect() -> None:
        async for answer in infer.stub.Render(requests()):
            got.append(answer)

    task = asyncio.create_task(collect())
    async with asyncio.timeout(10):
        while sum(len(answer.batch.patches) for answer in got) < 7:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert sum(len(answer.batch.patches) for answer in got) == 7
    go.set()
    async with asyncio.timeout(10):
        await task
    assert sum(len(answer.batch.patches) for answer in got) == 50


async def test_minutes_of_audio_at_once_do_not_block_the_credit_behind(infer: Infer) -> None:
    silence = np.zeros(16_000 * 70, np.float32)
    chunks = [audio(silence[offset : offset + 200_000]) for offset in range(0, len(silence), 200_000)]
    credit = [RenderRequest(credit=RenderCredit(frames=256)) for _ in range(7)]
    async with asyncio.timeout(60):
        patches = await infer.patches(start(initial_credit_frames=1), *chunks, *credit, END)
    assert len(patches) == 70 * 25


async def test_jpeg_patches_are_close_to_raw_patches(infer: Infer, speech: Samples) -> None:
    raw = await infer.patches(start(), audio(speech[:6400]), END)
    jpeg = await infer.patches(start(pixel_format=2), audio(speech[:6400]), END)
    for a, b in zip(raw, jpeg, strict=True):
        assert a.box == b.box
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < 2


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (639, 1), (640, 1), (641, 2)])
async def test_a_partial_frame_counts_as_a_frame(infer: Infer, samples: int, frames: int) -> None:
    assert len(await infer.patches(start(), audio(np.zeros(samples, np.float32)), END)) == frames
