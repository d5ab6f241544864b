"""The prep service through its front door: real server, real films, everything that people send by mistake."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.prep import uploads
from services.prep.bundle import builder
from services.prep.jobs import Jobs
from services.prep.wiring import SERVICE, build, prepare
from tests.footage import film, grey, panned, photo, portrait, run
from warmtalk.config import Config, PrepConfig
from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.types import Mask
from warmtalk.media.ffmpeg import ffmpeg
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.prep_pb2 import (
    Avatar,
    AvatarParams,
    CreateAvatarRequest,
    DeleteAvatarRequest,
    GetAvatarRequest,
    GetReportRequest,
    ListAvatarsRequest,
    Point,
    UploadHeader,
    UploadSourceRequest,
    UploadSourceResponse,
    WatchAvatarRequest,
)
from warmtalk.v1.prep_pb2_grpc import PrepServiceStub

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub

LONG = 170
"""Frames: three whole segments, and a part of one."""
SHORT = AvatarParams(still_seconds=1.0, frame_rate=FrameRate(numerator=10))


class Prep:
    """A running service and a client of it."""

    def __init__(self, stub: PrepServiceAsyncStub, jobs: Jobs, config: Config) -> None:
        self.stub = stub
        self.jobs = jobs
        self.config = config

    async def upload(self, content: bytes, name: str = "me.mp4", promised: int = 0) -> UploadSourceResponse:
        return await self.stub.UploadSource(pieces(content, name, promised))

    async def create(
        self, avatar_id: str, content: bytes, params: AvatarParams = SHORT, *, name: str = "me.mp4", other: bool = False
    ) -> Avatar:
        upload = await self.upload(content, name)
        request = CreateAvatarRequest(avatar_id=avatar_id, upload_id=upload.upload_id, params=params, replace=other)
        return (await self.stub.CreateAvatar(request)).avatar

    async def watch(self, avatar_id: str) -> list[Avatar]:
        return [answer.avatar async for answer in self.stub.WatchAvatar(WatchAvatarRequest(avatar_id=avatar_id))]

    async def built(self, avatar_id: str, content: bytes, params: AvatarParams = SHORT, name: str = "me.mp4") -> Avatar:
        await self.create(avatar_id, content, params, name=name)
        return (await self.watch(avatar_id))[-1]

    async def get(self, avatar_id: str) -> Avatar:
        return (await self.stub.GetAvatar(GetAvatarRequest(avatar_id=avatar_id))).avatar

    async def file(self, avatar_id: str, file: GetReportRequest.File.ValueType) -> bytes:
        pieces = self.stub.GetReport(GetReportRequest(avatar_id=avatar_id, file=file))
        return b"".join([piece.data async for piece in pieces])

    async def delete(self, avatar_id: str) -> None:
        await self.stub.DeleteAvatar(DeleteAvatarRequest(avatar_id=avatar_id))

    def bundle(self, avatar_id: str) -> Bundle:
        return Bundle(self.config.avatars_dir / avatar_id)

    def left(self) -> list[str]:
        """What lies in the folder of builds."""
        folder = self.config.avatars_dir / ".building"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def pieces(content: bytes, name: str, promised: int = 0) -> AsyncIterator[UploadSourceRequest]:
    yield UploadSourceRequest(header=UploadHeader(file_name=name, size_bytes=promised))
    for start in range(0, len(content), 100_000):
        yield UploadSourceRequest(data=content[start : start + 100_000])


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Prep]:
    server, jobs = build(config)
    jobs.start()
    await server.start()
    async with channel(server.address) as link:
        yield Prep(PrepServiceStub(link), jobs, config)
    await server.stop(0)
    await asyncio.to_thread(jobs.close)


def configured(tmp_path: Path, **changes: object) -> Config:
    config = Config(data_dir=tmp_path / "data", prep=PrepConfig(listen="127.0.0.1:0", max_upload_mb=4))
    return replace(config, prep=replace(config.prep, **changes))  # type: ignore[arg-type]


@pytest.fixture
async def prep(tmp_path: Path) -> AsyncIterator[Prep]:
    async with running(configured(tmp_path)) as service:
        yield service


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return photo(tmp_path_factory.mktemp("photo") / "a.jpg", portrait()[:300, 60:400]).read_bytes()


@pytest.fixture(scope="module")
def short_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    images = panned(15) + grey(10) + panned(35)
    return film(tmp_path_factory.mktemp("film") / "a.mp4", images).read_bytes()


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("film") / "a.mp4", panned(LONG)).read_bytes()


def refused(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError], code: grpc.StatusCode, *words: str) -> None:
    assert caught.value.code() is code
    for word in words:
        assert word in (caught.value.details() or "")


INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_photo_becomes_an_avatar(prep: Prep, still: bytes) -> None:
    asked = await prep.create("me", still, name="me.jpg")
    assert asked.state == Avatar.STATE_CREATING and asked.progress.stage == "queued"
    states = await prep.watch("me")
    ready = states[-1]
    assert ready.state == Avatar.STATE_READY
    assert (ready.width, ready.height, ready.frames, ready.usable_frames) == (340, 300, 10, 10)
    assert ready.renderers == ["mesh"] and ready.source_name == "me.jpg" and len(ready.source_sha256) == 64
    assert ready.summary.startswith("10 frames, 10 usable, face 9") and ready.size_bytes > 10_000
    assert ready.params == AvatarParams(still_seconds=1.0, frame_rate=FrameRate(numerator=10, denominator=1))
    assert ready.grade == "fair" and ready.advice == ["the face is 96 px wide: film it closer, or use a larger picture"]
    assert ready.bbox_shift_low < ready.bbox_shift_used < 0 < ready.bbox_shift_high
    bundle = prep.bundle("me")
    assert all(bundle.usable(row) and bundle.mask(row).max() == 255 for row in range(10))
    assert bundle.frame(9).shape == (300, 340, 3)
    assert prep.left() == []


async def test_film_with_a_gap_becomes_an_avatar(prep: Prep, short_film: bytes) -> None:
    ready = await prep.built("me", short_film, AvatarParams())
    assert (ready.frames, ready.usable_frames) == (60, 50)
    assert "in 10 frames no face is seen" in ready.summary
    bundle = prep.bundle("me")
    assert [bundle.usable(row) for row in (14, 15, 24, 25)] == [True, False, False, True]
    assert not bundle.landmarks(20).any() and bundle.box(20).empty
    assert np.abs(bundle.landmarks(30) - bundle.landmarks(29)).mean() > 0.3  # it moves a pixel a frame


async def test_of_two_faces_the_larger_is_used(prep: Prep, tmp_path: Path) -> None:
    near = np.asarray(cv2.resize(portrait()[30:230, 110:330], None, fx=1.4, fy=1.4), np.uint8)[:200]
    both = np.concatenate([portrait()[30:230, 110:330], near], 1)
    ready = await prep.built("me", film(tmp_path / "two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 6).read_bytes())
    assert "2 people are seen, face 2 from the left is used: choose another with --face N" in ready.advice
    bundle = prep.bundle("me")
    assert all(bundle.box(row).x1 > 220 for row in range(len(bundle)))
    report = json.loads((bundle.path / "report.json").read_text())
    assert [row["faces"] for row in report["frames"]] == [2] * len(bundle)
    assert sorted(path.name for path in bundle.path.iterdir()) == [
        "avatar.json",
        "contact_sheet.png",
        "faces.safetensors",
        "frames",
        "masks",
        "report.json",
    ]


async def test_a_shift_of_zero_is_not_an_automatic_one(prep: Prep, still: bytes) -> None:
    chosen = await prep.built("a", still)
    given = await prep.built("b", still, AvatarParams(bbox_shift=0, extra_margin=10, still_seconds=1.0))
    assert not chosen.params.HasField("bbox_shift") and chosen.bbox_shift_used < 0
    assert given.params.HasField("bbox_shift") and given.bbox_shift_used == 0
    assert prep.bundle("b").box(0).height < prep.bundle("a").box(0).height
    assert (given.bbox_shift_low, given.bbox_shift_high) == (chosen.bbox_shift_low, chosen.bbox_shift_high)


async def test_the_report_and_its_sheet(prep: Prep, short_film: bytes) -> None:
    await prep.built("me", short_film, AvatarParams())
    report = json.loads(await prep.file("me", GetReportRequest.FILE_JSON))
    assert report["version"] == 1 and report["loop"] == {"first": 0, "last": 59}
    assert [frame["verdict"] for frame in report["frames"]] == ["used"] * 15 + ["passed through"] * 10 + ["used"] * 35
    assert "no face is seen from 0.6 s to 1.0 s: cut there or accept the original picture" in report["advice"]
    assert report["longest_run"] == {"first": 25, "last": 59, "from_s": 1.0, "to_s": 2.4}
    seen = report["frames"][30]
    assert seen["faces"] == 1 and seen["sharpness"] > 20 and 0.3 < seen["exposure"] < 0.8 and abs(seen["yaw"]) < 20
    data = np.frombuffer(await prep.file("me", GetReportRequest.FILE_CONTACT_SHEET), np.uint8)
    sheet = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert sheet is not None and sheet.shape[1] > 1000
    orange = (np.abs(sheet.astype(int) - (40, 120, 240)).max(2) < 8).sum()
    green = (np.abs(sheet.astype(int) - (90, 190, 70)).max(2) < 8).sum()
    assert 0 < orange < green


async def test_no_report(prep: Prep, still: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.file("nobody", GetReportRequest.FILE_JSON)
    refused(caught, grpc.StatusCode.NOT_FOUND, "nobody")
    await prep.built("me", still)
    for name in ("contact_sheet.png", "report.json"):
        (prep.config.avatars_dir / "me" / name).unlink()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.file("me", GetReportRequest.FILE_CONTACT_SHEET)
    refused(caught, grpc.StatusCode.NOT_FOUND, "avatar 'me' has no contact_sheet.png", "build it again")
    assert (await prep.get("me")).state == Avatar.STATE_READY


async def test_what_an_older_version_made_is_the_same_avatar(prep: Prep, still: bytes) -> None:
    """It knew no automatic shift; whoever asks for nothing special is content with it."""
    await prep.built("me", still)
    path = prep.config.avatars_dir / "me" / "avatar.json"
    info = json.loads(path.read_text())
    for name in (
        "face",
        "at",
        "steadiness",
        "detector",
        "parsing",
        "parsing_mode",
        "cheek_width_left",
        "cheek_width_right",
    ):
        del info["params"][name]
    for name in ("first_frame", "stored_frames", "bbox_shift_used"):
        del info[name]
    info["params"] |= {"bbox_shift": 0, "extra_margin": 10, "mask": "mesh-jaw"}
    path.write_text(json.dumps(info))
    assert (await prep.create("me", still, name="me.jpg")).state == Avatar.STATE_READY
    assert prep.bundle("me").frame(9).shape == (300, 340, 3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", still, AvatarParams(still_seconds=1.0, frame_rate=FrameRate(numerator=10), face=1))
    refused(caught, grpc.StatusCode.ALREADY_EXISTS)


async def test_an_unquiet_end_is_left_out_and_its_frames_stay(prep: Prep, tmp_path: Path) -> None:
    """Rows are the frames from the first quiet one on, for whoever reads the bundle."""
    calm = panned(60)
    wild = [np.roll(calm[0], 5 * (6 - i), axis=1) for i in range(6)]
    ready = await prep.built("me", film(tmp_path / "wild.mp4", wild + calm).read_bytes(), AvatarParams())
    assert ready.frames < 66
    bundle = prep.bundle("me")
    first = bundle.info.first_frame
    assert 4 <= first <= 6 and bundle.info.stored_frames == 66 and len(bundle) == ready.frames
    away = [float(np.abs(bundle.frame(0).astype(int) - image).mean()) for image in (wild + calm)[:12]]
    assert int(np.argmin(away)) == first
    assert bundle.mask(0).max() == 255
    report = json.loads(await prep.file("me", GetReportRequest.FILE_JSON))
    assert [frame["verdict"] for frame in report["frames"][:first]] == ["left out"] * first
    with pytest.raises(IndexError):
        bundle.frame(len(bundle))


async def test_the_face_that_is_asked_for(prep: Prep, tmp_path: Path) -> None:
    near = np.asarray(cv2.resize(portrait()[30:230, 110:330], None, fx=1.4, fy=1.4), np.uint8)[:200]
    both = np.concatenate([portrait()[30:230, 110:330], near], 1)
    two = film(tmp_path / "two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 6).read_bytes()
    left = await prep.built("left", two, AvatarParams(face=1))
    assert left.params.face == 1 and prep.bundle("left").box(0).x2 < 220
    await prep.built("point", two, AvatarParams(at=Point(x=100, y=100)))
    assert prep.bundle("point").box(0).x2 < 220
    gone = await prep.built("gone", two, AvatarParams(face=3))
    assert gone.state == Avatar.STATE_FAILED
    assert "there is no face 3 in me.mp4; seen from the left: face 1 at 11" in gone.error


async def test_a_detector_that_is_not_ready_is_refused_with_what_it_needs(tmp_path: Path, still: bytes) -> None:
    config = replace(configured(tmp_path, detector="dwpose"), models_dir=tmp_path / "models")
    async with running(config) as prep:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("me", still)
        needed = str(config.models_dir / "dwpose" / "dw-ll_ucoco_384.onnx")
        refused(caught, grpc.StatusCode.FAILED_PRECONDITION, "dwpose needs", needed, "warmtalk weights fetch dwpose")
        assert prep.left() == []


async def test_progress_is_told(prep: Prep, long_film: bytes) -> None:
    await prep.create("me", long_film, AvatarParams())
    seen = [avatar.progress for avatar in await prep.watch("me") if avatar.state == Avatar.STATE_CREATING]
    scanning = [one for one in seen if one.stage == "finding faces"]
    assert scanning and all(one.frames_total == LONG and one.seconds_left >= 0 for one in scanning)
    assert [one.frames_done for one in scanning] == sorted(one.frames_done for one in scanning)


async def test_same_again_is_ready_at_once(prep: Prep, still: bytes) -> None:
    upload = await prep.upload(still, "me.jpg")
    request = CreateAvatarRequest(avatar_id="me", upload_id=upload.upload_id, params=SHORT)
    first = (await prep.stub.CreateAvatar(request)).avatar
    again = (await prep.stub.CreateAvatar(request)).avatar
    assert again.create_time == first.create_time or again.state == Avatar.STATE_READY
    await prep.watch("me")
    made = (prep.config.avatars_dir / "me" / "avatar.json").stat().st_mtime_ns
    assert (await prep.stub.CreateAvatar(request)).avatar.state == Avatar.STATE_READY  # the same upload
    assert (await prep.create("me", still, name="copy.jpg")).state == Avatar.STATE_READY  # the same content
    assert (prep.config.avatars_dir / "me" / "avatar.json").stat().st_mtime_ns == made


async def test_an_id_is_not_taken_over_unasked(prep: Prep, still: bytes, short_film: bytes) -> None:
    await prep.built("me", still)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", short_film)
    refused(caught, grpc.StatusCode.ALREADY_EXISTS, "avatar 'me' was built from something else", "replace")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", still, AvatarParams(bbox_shift=3))
    refused(caught, grpc.StatusCode.ALREADY_EXISTS, "was built with another bbox_shift, fps, still_seconds. Use")
    assert (await prep.create("me", short_film, other=True)).state == Avatar.STATE_CREATING
    assert (await prep.watch("me"))[-1].frames == 24  # 60 frames of 25 fps at 10 fps
    assert prep.left() == []


async def test_a_better_detector_is_used_when_it_is_asked_for(
    prep: Prep, still: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that were fetched since make the same request no other one: the avatar says that there is better."""
    made = await prep.built("me", still)
    assert not any("--replace" in advice for advice in made.advice)
    monkeypatch.setattr("warmtalk.models.checkpoints.kits.check", lambda kit, models_dir: [])
    again = await prep.create("me", still)
    assert again.state == Avatar.STATE_READY and again.create_time == made.create_time
    advice = "detector dwpose and parsing bisenet are ready here and not used yet: create it again with --replace"
    assert advice in again.advice
    assert (await prep.create("me", still, other=True)).state == Avatar.STATE_CREATING
    await prep.watch("me")


async def test_replacing_an_avatar_by_itself_is_done_already(prep: Prep, still: bytes) -> None:
    """A request that is sent again because its answer was lost."""
    made = await prep.built("me", still)
    again = await prep.create("me", still, other=True)
    assert again.state == Avatar.STATE_READY and again.create_time == made.create_time


async def test_a_renderer_that_came_later_is_told_and_prepared(
    prep: Prep, still: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prep.built("me", still)
    monkeypatch.setattr("services.prep.messages.renderers", lambda config: ("mesh", "musetalk"))
    again = await prep.create("me", still)
    assert "renderer musetalk is ready here and not used yet: create it again with --replace" in again.advice
    assert (await prep.create("me", still, other=True)).state == Avatar.STATE_CREATING
    await prep.watch("me")


async def test_a_detector_that_is_named_is_another_parameter(tmp_path: Path, still: bytes) -> None:
    async with running(configured(tmp_path)) as prep:
        await prep.built("me", still)
    async with running(configured(tmp_path, detector="mesh", parsing="mesh")) as prep:
        assert (await prep.create("me", still)).state == Avatar.STATE_READY
    path = tmp_path / "data" / "avatars" / "me" / "avatar.json"
    info = json.loads(path.read_text())
    info["params"]["detector"] = "dwpose"
    path.write_text(json.dumps(info))
    async with running(configured(tmp_path)) as prep:
        assert (await prep.create("me", still)).state == Avatar.STATE_READY
    async with running(configured(tmp_path, detector="mesh")) as prep:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("me", still)
        refused(caught, grpc.StatusCode.ALREADY_EXISTS, "was built with another detector")


async def test_a_replacement_that_fails_leaves_the_avatar(prep: Prep, still: bytes, tmp_path: Path) -> None:
    await prep.built("me", still)
    await prep.create("me", photo(tmp_path / "g.png", grey(1)[0]).read_bytes(), other=True)
    failed = (await prep.watch("me"))[-1]
    assert failed.state == Avatar.STATE_FAILED and "The avatar made before is still there" in failed.error
    assert len(prep.bundle("me")) == 10
    assert (await prep.create("me", still)).state == Avatar.STATE_READY


BAD_IDS = ["", "..", "../x", "a/b", "/etc", "a\0b", "A", "a b", "-a", "_a", "a" * 300, "ä", "a\n", ".building"]


@pytest.mark.parametrize("avatar_id", BAD_IDS)
async def test_bad_ids_never_touch_a_path(prep: Prep, still: bytes, avatar_id: str) -> None:
    for call in (prep.create(avatar_id, still), prep.get(avatar_id), prep.watch(avatar_id), prep.delete(avatar_id)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        refused(caught, INVALID, "avatar_id is ", "Use 1 to 63 of a-z")
    assert prep.left() == []


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "me.mp4", ["me.mp4 is empty"]),
        (b"no film at all, just text called a film", "me.mp4", ["me.mp4 is not a video or picture", "Use mp4"]),
        (b"x", "me.mp4", ["is not a video or picture"]),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/x\n", "me.mp4", ["is a list of other files"]),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "me.mp4", ["is a list of other files"]),
        (b"GIF89a" + bytes(3_000_000), "me.gif", ["me.gif is a GIF"]),
        (b"\0\0\0\x20ftypisom" + bytes(5_000_000), "me.mp4", ["me.mp4 is larger than 4 MiB"]),
        (b"\x89PNG\r\n\x1a\n", "", ["file_name has 0 characters"]),
        (b"\x89PNG\r\n\x1a\n", "x" * 256, ["file_name has 256 characters"]),
    ],
)
async def test_bad_uploads_are_refused(prep: Prep, content: bytes, name: str, words: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(content, name)
    refused(caught, INVALID, *words)
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_uploads_that_break_the_order_are_refused(prep: Prep, still: bytes) -> None:
    async def send(*requests: UploadSourceRequest) -> AsyncIterator[UploadSourceRequest]:
        for request in requests:
            yield request

    header = UploadSourceRequest(header=UploadHeader(file_name="me.jpg"))
    data = UploadSourceRequest(data=still)
    for requests, word in (
        ((), "starts with its header"),
        ((data,), "starts with its header"),
        ((header, header), "one header"),
        ((header, UploadSourceRequest(data=bytes(2 << 20))), "2097152 bytes"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.stub.UploadSource(send(*requests))
        refused(caught, INVALID, word)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(still, promised=len(still) + 1)
    refused(caught, INVALID, "me.mp4 arrived with")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(still, promised=1 << 40)
    refused(caught, INVALID, "me.mp4 is larger than 4 MiB")
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_a_cancelled_upload_leaves_nothing(prep: Prep, still: bytes) -> None:
    async def stalled() -> AsyncIterator[UploadSourceRequest]:
        yield UploadSourceRequest(header=UploadHeader(file_name="me.jpg"))
        yield UploadSourceRequest(data=still[:1000])
        await asyncio.sleep(60)

    call = prep.stub.UploadSource(stalled())
    folder = prep.config.avatars_dir / ".uploads"
    await until(lambda: folder.is_dir() and any(folder.iterdir()))
    call.cancel()
    await until(lambda: not any(folder.iterdir()))


async def until(done: object, timeout_s: float = 60.0) -> None:
    assert callable(done)
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("grey photo", ["no usable face in me.mp4", "one face looks at the camera"]),
        ("grey film", ["no usable face in me.mp4", "one face looks at the camera"]),
        ("cut film", ["me.mp4 is cut off: its end is missing"]),
        ("cut photo", ["me.mp4 is cut off: its end is missing"]),
        ("rubbish", ["me.mp4 is cut off"]),
        ("sound", ["me.mp4 holds no picture"]),
        ("too long", ["me.mp4 is longer than 8 s"]),
        ("too large", ["me.mp4 is too large"]),
    ],
)
async def test_bad_sources_fail_in_plain_words(
    tmp_path: Path, still: bytes, short_film: bytes, kind: str, words: list[str]
) -> None:
    def source() -> bytes:
        if kind == "sound":
            run(["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(tmp_path / "a.mp4")])
            return (tmp_path / "a.mp4").read_bytes()
        if kind == "too large":
            return film(tmp_path / "a.mp4", [np.zeros((400, 400, 3), np.uint8)] * 3).read_bytes()
        return {
            "grey photo": lambda: photo(tmp_path / "g.png", grey(1)[0]).read_bytes(),
            "grey film": lambda: film(tmp_path / "g.mp4", grey(10)).read_bytes(),
            "cut film": lambda: short_film[: len(short_film) // 2],
            "cut photo": lambda: still[: len(still) // 2],
            "rubbish": lambda: b"\0\0\0\x20ftypisom" + os.urandom(5000),
            "too long": lambda: film(tmp_path / "l.mp4", grey(30), fps="3").read_bytes(),
        }[kind]()

    async with running(configured(tmp_path, max_source_s=8.0, max_source_pixels=350 * 350)) as prep:
        failed = await prep.built("me", source())
        assert failed.state == Avatar.STATE_FAILED
        assert all(word in failed.error for word in words), failed.error
        assert str(tmp_path) not in failed.error
        assert (await prep.get("me")).error == failed.error
        assert not (prep.config.avatars_dir / "me").exists()
        assert prep.left() == ["me.failed.json"]
    async with running(prep.config) as after:  # the reason outlives the process
        assert (await after.get("me")).error == failed.error
        assert (await after.built("me", still)).state == Avatar.STATE_READY
        assert after.left() == []


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (AvatarParams(bbox_shift=101), "bbox_shift is 101. Use -100 to 100"),
        (AvatarParams(extra_margin=-1), "extra_margin is -1. Use 0 to 200"),
        (AvatarParams(still_seconds=31), "still_seconds is 31. Use 1 to 30"),
        (AvatarParams(still_seconds=float("nan")), "still_seconds is nan"),
        (AvatarParams(frame_rate=FrameRate(numerator=61)), "frame_rate is 61. Use 1 to 60"),
    ],
)
async def test_parameters_out_of_range(prep: Prep, still: bytes, params: AvatarParams, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", still, params)
    refused(caught, INVALID, word)


@pytest.mark.parametrize("upload_id", ["", "nonsense", "../../etc/passwd", "0" * 32, "a\0b", "x" * 300])
async def test_unknown_uploads(prep: Prep, upload_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.stub.CreateAvatar(CreateAvatarRequest(avatar_id="me", upload_id=upload_id))
    refused(caught, grpc.StatusCode.NOT_FOUND, "there is no upload", "send the file again")


async def test_unknown_avatars(prep: Prep) -> None:
    for call in (prep.get("nobody"), prep.watch("nobody"), prep.delete("nobody")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        refused(caught, grpc.StatusCode.NOT_FOUND, "there is no avatar 'nobody'")


async def test_list_is_paged_and_tells_all_states(prep: Prep, still: bytes, tmp_path: Path) -> None:
    await prep.built("b", still)
    await prep.built("a", photo(tmp_path / "g.png", grey(1)[0]).read_bytes())
    (prep.config.avatars_dir / "c").mkdir()
    (prep.config.avatars_dir / "c" / "avatar.json").write_text("{")
    found, token = [], ""
    while True:
        page = await prep.stub.ListAvatars(ListAvatarsRequest(page_size=2, page_token=token))
        found += list(page.avatars)
        if not (token := page.next_page_token):
            break
    assert [(one.avatar_id, one.state) for one in found] == [
        ("a", Avatar.STATE_FAILED),
        ("b", Avatar.STATE_READY),
        ("c", Avatar.STATE_FAILED),
    ]
    assert "avatar 'c' is damaged" in found[2].error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.stub.ListAvatars(ListAvatarsRequest(page_size=1001))
    refused(caught, INVALID, "page_size is 1001")


async def test_delete_removes_all_of_it(prep: Prep, still: bytes) -> None:
    await prep.built("me", still)
    await prep.delete("me")
    assert not (prep.config.avatars_dir / "me").exists() and prep.left() == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.get("me")
    refused(caught, grpc.StatusCode.NOT_FOUND)
    assert (await prep.built("me", still)).state == Avatar.STATE_READY


async def test_delete_stops_a_build_and_its_watchers(prep: Prep, long_film: bytes, still: bytes) -> None:
    await prep.create("me", long_film, AvatarParams())
    watching = asyncio.create_task(prep.watch("me"))
    parts = prep.config.avatars_dir / ".building" / "me" / "parts"
    await until(lambda: (parts / "00000.safetensors").exists())
    await prep.create("waits", long_film, AvatarParams())
    await prep.delete("waits")
    await prep.delete("me")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watching
    refused(caught, grpc.StatusCode.NOT_FOUND, "there is no avatar 'me'")
    assert prep.left() == []
    assert (await prep.built("me", still)).state == Avatar.STATE_READY


async def test_a_full_queue_says_when_to_come_back(tmp_path: Path, long_film: bytes) -> None:
    async with running(configured(tmp_path, max_queue=1)) as prep:
        await prep.create("one", long_film, AvatarParams())
        await until(lambda: prep.jobs._running is not None)
        await prep.create("two", long_film, AvatarParams())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("three", long_film, AvatarParams())
        refused(caught, grpc.StatusCode.RESOURCE_EXHAUSTED, "1 builds are waiting already")
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # an AioRpcError is a Call too
        assert status is not None
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WARMTALK_FFMPEG", "no-such-program")
    ffmpeg.cache_clear()
    yield
    ffmpeg.cache_clear()


@pytest.mark.usefixtures("no_ffmpeg")
async def test_missing_ffmpeg(prep: Prep, still: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", still)
    refused(caught, grpc.StatusCode.FAILED_PRECONDITION, "WARMTALK_FFMPEG names 'no-such-program'")


async def test_full_volume_while_uploading(prep: Prep, still: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "write_json", full)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(still)
    refused(caught, grpc.StatusCode.RESOURCE_EXHAUSTED, "the volume is full", "Make room")
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_full_volume_while_building(prep: Prep, still: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, row: int, mask: Mask) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(builder, "write_mask", full)
        failed = await prep.built("me", still)
    assert failed.state == Avatar.STATE_FAILED
    assert "the volume is full" in failed.error and "Make room" in failed.error
    assert (await prep.built("me", still)).state == Avatar.STATE_READY


async def test_a_bug_stays_in_the_log(prep: Prep, still: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, row: int, mask: Mask) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(builder, "write_mask", broken)
    failed = await prep.built("me", still)
    assert failed.error == "something went wrong in the service; its log has the cause"


async def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, long_film: bytes) -> None:
    config = configured(tmp_path)
    address = f"unix:{tmp_path}/prep.sock"
    environ = {**os.environ, "WARMTALK_PREP_LISTEN": address, "WARMTALK_DATA_DIR": str(config.data_dir)}
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.prep", env=environ)
    work = config.avatars_dir / ".building" / "me"
    try:
        await wait_ready(address, SERVICE, 30)
        async with channel(address) as link:
            prep = Prep(PrepServiceStub(link), Jobs.__new__(Jobs), config)
            await prep.create("me", long_film, AvatarParams())
            await until(lambda: (work / "parts" / "00001.safetensors").exists())
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    finished = sorted((work / "parts").glob("*.safetensors"))
    assert 2 <= len(finished) <= LONG // SEGMENT_FRAMES
    kept = {part.stem: (work / "frames" / f"{part.stem}.mp4").stat().st_ino for part in finished}
    async with running(config) as after:
        cut = await after.get("me")
        assert cut.state == Avatar.STATE_FAILED and "it goes on from where it was" in cut.error
        assert (await after.built("me", long_film, AvatarParams())).usable_frames == LONG
        frames = config.avatars_dir / "me" / "frames"
        assert {stem: (frames / f"{stem}.mp4").stat().st_ino for stem in kept} == kept
        assert after.left() == []
        assert len([after.bundle("me").frame(row) for row in (0, 99, LONG - 1)]) == 3


async def test_old_uploads_are_swept_and_used_ones_go(prep: Prep, still: bytes) -> None:
    old = await prep.upload(still)
    folder = prep.config.avatars_dir / ".uploads"
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    await prep.built("me", still)
    assert not list(folder.glob(f"{old.upload_id}*"))
    assert [path.suffix for path in folder.iterdir()] == [".json"]


async def test_the_configured_avatar_is_made_at_start(prep: Prep, still: bytes, tmp_path: Path) -> None:
    source = tmp_path / "me.jpg"
    source.write_bytes(still)
    config = replace(prep.config, avatar_id="me", video_path=str(source), preparation=True)
    prepare(config, prep.jobs)
    assert (await prep.watch("me"))[-1].state == Avatar.STATE_READY
    assert source.exists()
    prepare(replace(config, video_path=str(tmp_path / "gone.mp4")), prep.jobs)  # is logged, not raised
    assert (await prep.get("me")).state == Avatar.STATE_READY
