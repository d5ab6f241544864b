"""Concurrent streams: aborted, abandoned, refused, and served in turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from tests.garbage import collector_disabled, wait_until_freed
from tests.rpc.infer.harness import END, Infer, all_free, audio, refused, running, start
from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.types import Samples
from warmtalk.services.infer.stream import RenderStream
from warmtalk.v1.infer_pb2 import Abort, RenderRequest


async def test_abort_drops_frames_not_rendered_yet(infer: Infer, speech: Samples) -> None:
    answers = await infer.answers(start(initial_credit_frames=3), audio(speech), RenderRequest(abort=Abort()))
    assert answers[-1].finished.aborted
    await all_free(infer)


async def test_hanging_up_without_an_end_is_an_abort(infer: Infer, speech: Samples) -> None:
    answers = await infer.answers(start(), audio(speech))
    assert answers[-1].finished.aborted


async def test_a_disconnected_client_frees_the_stream(infer: Infer, speech: Samples) -> None:
    for number in range(30):
        call = infer.stub.Render(iter([start(initial_credit_frames=2), audio(speech)]))
        for _ in range(number % 3):
            await call.read()
        call.cancel()
    await all_free(infer)
    assert len(await infer.patches(start(), audio(speech[:6400]), END)) == 10


async def test_one_stream_too_many_is_refused_as_busy(avatars: Path, tmp_path: Path, speech: Samples) -> None:
    (tmp_path / "avatars").symlink_to(avatars)
    async for infer in running(tmp_path, max_streams=2):
        held = [infer.stub.Render(iter([start(initial_credit_frames=1), audio(speech), END])) for _ in range(2)]
        for call in held:
            await call.read()
        error = await refused(infer, start(), END)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "all 2 streams" in (error.details() or "")
        capacity = await infer.capacity()
        assert (capacity.open_streams, capacity.max_streams) == (2, 2)
        held[0].cancel()
        async with asyncio.timeout(5):
            while infer.engine.open_streams == 2:
                await asyncio.sleep(0.01)
        assert len(await infer.patches(start(), audio(speech[:640]), END)) == 1
        held[1].cancel()


async def test_streams_share_the_renderer_fairly(infer: Infer, speech: Samples) -> None:
    order: list[int] = []

    async def run(name: int) -> None:
        async for answer in infer.stub.Render(iter([start(), audio(speech), END])):
            order.extend([name] * len(answer.batch.patches))

    await asyncio.gather(*(run(name) for name in range(3)))
    assert all(order.count(name) == 50 for name in range(3))
    middle = order[:75]
    assert min(middle.count(name) for name in range(3)) >= 15


async def test_ended_streams_are_freed_without_the_garbage_collector(infer: Infer, speech: Samples) -> None:
    with collector_disabled():
        await infer.patches(start(), audio(speech), END)
        call = infer.stub.Render()
        await call.write(start())
        await call.write(audio(speech))
        await call.read()
        call.cancel()
        await all_free(infer)
        await wait_until_freed(RenderStream, UtteranceBuffer)
