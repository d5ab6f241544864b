"""The infer service through its front door: a real server, a real avatar, real frames."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from services.infer.engine import Engine
from services.infer.stream import RenderStream
from services.infer.wiring import build, models
from tests.garbage import gone, no_collector
from warmtalk.config import Config, InferConfig
from warmtalk.core.bundle import Bundle, Faces, read_faces, write_faces
from warmtalk.core.pipeline import WarmAvatar, render
from warmtalk.core.stream import Utterance
from warmtalk.core.types import FrameClock, Patch, Samples, cycle_row
from warmtalk.rpc import convert
from warmtalk.rpc.client import channel
from warmtalk.v1.infer_pb2 import (
    Abort,
    AudioPiece,
    EndOfAudio,
    GetCapacityRequest,
    GetCapacityResponse,
    RenderConfig,
    RenderCredit,
    RenderRequest,
    RenderResponse,
    WarmAvatarRequest,
)
from warmtalk.v1.infer_pb2_grpc import InferServiceStub

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.infer_pb2_grpc import InferServiceAsyncStub

END = RenderRequest(end=EndOfAudio())
LATENCY_FRAMES = 6
"""Frames that may wait for sound to come: at most 200 ms of look-ahead, and the frame under way."""


class Infer:
    """A running service and a client of it."""

    def __init__(self, stub: InferServiceAsyncStub, engine: Engine) -> None:
        self.stub = stub
        self.engine = engine

    async def answers(self, *requests: RenderRequest) -> list[RenderResponse]:
        """Sends the first request, waits for the first answer, sends the rest: what is written while a server refuses
        a call would hide the reason from a grpc.aio client.
        """
        started = asyncio.Event()

        async def paced() -> AsyncIterator[RenderRequest]:
            for number, request in enumerate(requests):
                if number == 1:
                    await started.wait()
                yield request

        got = []
        async for answer in self.stub.Render(paced()):
            got.append(answer)
            started.set()
        return got

    async def patches(self, *requests: RenderRequest) -> list[Patch]:
        return [patch for answer in await self.answers(*requests) for patch in convert.patches(answer.batch)]

    async def capacity(self) -> GetCapacityResponse:
        return await self.stub.GetCapacity(GetCapacityRequest())


@pytest.fixture
async def infer(avatars: Path, tmp_path: Path) -> AsyncIterator[Infer]:
    (tmp_path / "avatars").symlink_to(avatars)
    async for one in running(tmp_path):
        yield one


async def running(data_dir: Path, **settings: int) -> AsyncIterator[Infer]:
    config = Config(data_dir=data_dir, infer=replace(InferConfig(listen="127.0.0.1:0"), **settings))
    server, engine = build(config)
    await server.start()
    async with channel(server.address) as link:
        yield Infer(InferServiceStub(link), engine)
    await server.stop(0)
    await engine.close()


def start(**fields: object) -> RenderRequest:
    return RenderRequest(config=RenderConfig(**{"avatar_id": "eileen", "initial_credit_frames": 256, **fields}))  # type: ignore[arg-type]


def audio(samples: Samples) -> RenderRequest:
    return RenderRequest(audio=AudioPiece(samples_f32le=convert.samples_bytes(samples)))


async def refused(infer: Infer, *requests: RenderRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer.patches(*requests)
    return caught.value


async def all_free(infer: Infer) -> None:
    async with asyncio.timeout(5):
        while infer.engine.open_streams:
            await asyncio.sleep(0.01)


async def test_the_live_path_gives_the_frames_of_the_offline_path(infer: Infer, avatars: Path, speech: Samples) -> None:
    pieces = [speech[place : place + 777] for place in range(0, len(speech), 777)]
    live = await infer.patches(start(start_index=40), *map(audio, pieces), END)
    model = models()["mesh"]
    avatar = WarmAvatar(Bundle(avatars / "eileen"), model.renderer)
    offline = list(render(avatar, model.encoder, [speech], FrameClock(), start_index=40))
    assert len(live) == len(offline) == 50
    for a, b in zip(live, offline, strict=True):
        assert (a.frame, a.row, a.box) == (b.frame, b.row, b.box)
        assert np.array_equal(a.pixels, b.pixels)
    assert [patch.row for patch in live] == [cycle_row(40 + frame, 25) for frame in range(50)]


async def test_the_mouth_moves_with_the_sound_and_rests_without(infer: Infer, speech: Samples) -> None:
    silence = np.zeros_like(speech)
    spoken = await infer.patches(start(), audio(speech), END)
    quiet = await infer.patches(start(), audio(silence), END)
    moved = [float(np.abs(a.pixels.astype(int) - b.pixels).mean()) for a, b in zip(spoken, quiet, strict=True)]
    assert max(moved[:30]) > 2.0
    assert max(moved[-5:]) == 0.0


async def test_frames_come_while_the_sound_is_still_arriving(infer: Infer, speech: Samples) -> None:
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


async def test_the_first_message_says_what_is_rendered_and_the_last_how_much(infer: Infer, speech: Samples) -> None:
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


async def test_minutes_of_sound_at_once_do_not_block_the_credit_behind_them(infer: Infer) -> None:
    sound = np.zeros(16_000 * 70, np.float32)
    pieces = [audio(sound[place : place + 200_000]) for place in range(0, len(sound), 200_000)]
    credit = [RenderRequest(credit=RenderCredit(frames=256)) for _ in range(7)]
    async with asyncio.timeout(60):
        patches = await infer.patches(start(initial_credit_frames=1), *pieces, *credit, END)
    assert len(patches) == 70 * 25


async def test_jpeg_is_for_slow_links(infer: Infer, speech: Samples) -> None:
    raw = await infer.patches(start(), audio(speech[:6400]), END)
    jpeg = await infer.patches(start(pixel_format=2), audio(speech[:6400]), END)
    for a, b in zip(raw, jpeg, strict=True):
        assert a.box == b.box
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < 2


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (639, 1), (640, 1), (641, 2)])
async def test_every_started_frame_is_a_frame(infer: Infer, samples: int, frames: int) -> None:
    assert len(await infer.patches(start(), audio(np.zeros(samples, np.float32)), END)) == frames


async def test_abort_drops_what_is_not_rendered(infer: Infer, speech: Samples) -> None:
    answers = await infer.answers(start(initial_credit_frames=3), audio(speech), RenderRequest(abort=Abort()))
    assert answers[-1].finished.aborted
    await all_free(infer)


async def test_hanging_up_without_an_end_is_an_abort(infer: Infer, speech: Samples) -> None:
    answers = await infer.answers(start(), audio(speech))
    assert answers[-1].finished.aborted


async def test_a_client_that_goes_away_frees_its_place(infer: Infer, speech: Samples) -> None:
    for number in range(30):
        call = infer.stub.Render(iter([start(initial_credit_frames=2), audio(speech)]))
        for _ in range(number % 3):
            await call.read()
        call.cancel()
    await all_free(infer)
    assert len(await infer.patches(start(), audio(speech[:6400]), END)) == 10


async def test_one_stream_too_many_is_told_when_to_come_back(avatars: Path, tmp_path: Path, speech: Samples) -> None:
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


async def test_a_frame_without_a_face_shows_the_source(avatars: Path, tmp_path: Path, speech: Samples) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    faces = read_faces(tmp_path / "avatars" / "eileen")
    usable = faces.usable.copy()
    usable[5:9] = 0
    write_faces(tmp_path / "avatars" / "eileen", Faces(faces.boxes, faces.crop_boxes, faces.landmarks, usable))
    async for infer in running(tmp_path):
        patches = await infer.patches(start(), audio(speech[:9600]), END)
        assert [patch.box.empty for patch in patches] == [patch.row in range(5, 9) for patch in patches]


async def test_rows_of_a_warm_avatar_are_made_ready_meanwhile(infer: Infer, avatars: Path) -> None:
    await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    avatar = WarmAvatar(Bundle(avatars / "eileen"), models()["mesh"].renderer)
    rows = len(list(avatar.warm()))
    assert rows == 25
    async with asyncio.timeout(20):
        while (await infer.capacity()).warm_bytes < avatar.nbytes:
            await asyncio.sleep(0.05)


async def test_warming_an_avatar_takes_the_wait_away(infer: Infer) -> None:
    first = await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    again = await infer.stub.WarmAvatar(WarmAvatarRequest(avatar_id="eileen"))
    assert first.load_time.ToMicroseconds() > 0
    assert again.load_time.ToMicroseconds() == 0
    capacity = await infer.capacity()
    assert list(capacity.warm_avatars) == ["eileen"]
    assert capacity.warm_bytes > 0
    assert list(capacity.renderers) == ["mesh"]


async def test_warm_avatars_are_bounded_by_bytes(avatars: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(avatars / "eileen", tmp_path / "avatars" / name)
    async for infer in running(tmp_path, cache_mb=1):
        for name in ("a", "b", "c"):
            await infer.patches(start(avatar_id=name), audio(np.zeros(640, np.float32)), END)
        assert list((await infer.capacity()).warm_avatars) == ["c"]


@pytest.mark.parametrize(
    ("requests", "code", "words"),
    [
        ([END], "INVALID_ARGUMENT", "first message of Render is not a config"),
        ([], "INVALID_ARGUMENT", "first message of Render is not a config"),
        ([start(avatar_id="nobody")], "NOT_FOUND", "no avatar 'nobody' (there are: eileen)"),
        ([start(avatar_id="../etc")], "INVALID_ARGUMENT", "avatar_id is '../etc'"),
        ([start(avatar_id="a\0b")], "INVALID_ARGUMENT", "avatar_id is"),
        ([start(avatar_id="a" * 300)], "INVALID_ARGUMENT", "avatar_id is"),
        ([start(avatar_id="")], "INVALID_ARGUMENT", "avatar_id is missing"),
        ([start(renderer="unreal")], "INVALID_ARGUMENT", "no renderer 'unreal'"),
        ([start(batch_frames=9)], "INVALID_ARGUMENT", "batch_frames is 9"),
        ([start(start_index=-1)], "INVALID_ARGUMENT", "start_index is -1"),
        ([start(), audio(np.array([np.nan], np.float32))], "INVALID_ARGUMENT", "NaN"),
        ([start(), RenderRequest(audio=AudioPiece(samples_f32le=b"abc"))], "INVALID_ARGUMENT", "multiple of 4"),
        ([start(), start()], "INVALID_ARGUMENT", "second config"),
        ([start(), RenderRequest(credit=RenderCredit(frames=-1))], "INVALID_ARGUMENT", "credit.frames is -1"),
        (
            [start(initial_credit_frames=1), audio(np.zeros(6400, np.float32)), END, audio(np.zeros(9, np.float32))],
            "INVALID_ARGUMENT",
            "sound came after the end",
        ),
    ],
)
async def test_a_bad_request_is_told_why(infer: Infer, requests: list[RenderRequest], code: str, words: str) -> None:
    error = await refused(infer, *requests)
    assert error.code().name == code
    assert words in (error.details() or "")
    await all_free(infer)


async def test_an_avatar_that_is_still_building_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "avatars" / ".building" / "anna").mkdir(parents=True)
    async for infer in running(tmp_path):
        error = await refused(infer, start(avatar_id="anna"))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "still being built" in (error.details() or "")


async def test_streams_that_ended_leave_nothing_to_the_garbage_collector(infer: Infer, speech: Samples) -> None:
    with no_collector():
        await infer.patches(start(), audio(speech), END)
        call = infer.stub.Render()
        await call.write(start())
        await call.write(audio(speech))
        await call.read()
        call.cancel()
        await all_free(infer)
        await gone(RenderStream, Utterance)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("avatar.json", b"{"),
        ("avatar.json", b'{"schema": 99}'),
        ("faces.safetensors", b"\x00" * 100),
        ("frames/00000.mp4", b"not a video"),
        ("masks/00000000.png", b"not a picture"),
    ],
)
async def test_a_damaged_avatar_is_named_with_the_way_out(
    avatars: Path, tmp_path: Path, speech: Samples, file: str, content: bytes
) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    (tmp_path / "avatars" / "eileen" / file).write_bytes(content)
    async for infer in running(tmp_path):
        error = await refused(infer, start(), audio(speech), END)
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert "'eileen' is damaged" in (error.details() or "")
        assert "warmtalk avatar create eileen" in (error.details() or "")
        await all_free(infer)


async def test_an_avatar_that_is_not_prepared_says_how_to_prepare_it(avatars: Path, tmp_path: Path) -> None:
    shutil.copytree(avatars / "eileen", tmp_path / "avatars" / "eileen")
    info = tmp_path / "avatars" / "eileen" / "avatar.json"
    info.write_text(info.read_text().replace('"mesh"', '"musetalk"'))
    async for infer in running(tmp_path):
        error = await refused(infer, start())
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "not prepared" in (error.details() or "")
