"""The prep service through its front door: real server, real films."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest

from tests.footage import panned_frames, portrait, write_video
from tests.rpc.prep.harness import LONG, Prep, configured, refused, running
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, GetReportRequest, Point


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
    assert ready.grade == "fair" and ready.advice == ["the face is 96 px wide: film it closer, or use a larger image"]
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
    ready = await prep.built(
        "me", write_video(tmp_path / "two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 6).read_bytes()
    )
    assert "2 people are visible, face 2 from the left is used: choose another with --face N" in ready.advice
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
    assert "no face is seen from 0.6 s to 1.0 s: cut there or accept the original image" in report["advice"]
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
    refused(caught, grpc.StatusCode.NOT_FOUND, "avatar 'me' has no contact_sheet.png", "build the avatar again")
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
    calm = panned_frames(60)
    wild = [np.roll(calm[0], 5 * (6 - i), axis=1) for i in range(6)]
    ready = await prep.built("me", write_video(tmp_path / "wild.mp4", wild + calm).read_bytes(), AvatarParams())
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
    two = write_video(tmp_path / "two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 6).read_bytes()
    left = await prep.built("left", two, AvatarParams(face=1))
    assert left.params.face == 1 and prep.bundle("left").box(0).x2 < 220
    await prep.built("point", two, AvatarParams(at=Point(x=100, y=100)))
    assert prep.bundle("point").box(0).x2 < 220
    gone = await prep.built("gone", two, AvatarParams(face=3))
    assert gone.state == Avatar.STATE_FAILED
    assert "there is no face 3 in me.mp4; faces from the left: face 1 at 11" in gone.error


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
