"""Builds on a real prep service, from a photo or a video to the finished avatar."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest

from tests.footage import panned_frames, portrait, write_video
from tests.rpc.prep.harness import LONG_FRAMES, PrepHarness, assert_rejected, prep_config, running
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, GetReportRequest, Point


async def test_photo_becomes_an_avatar(prep: PrepHarness, photo: bytes) -> None:
    queued = await prep.create("me", photo, name="me.jpg")
    assert queued.state == Avatar.STATE_CREATING and queued.progress.stage == "queued"
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
    assert prep.unfinished() == []


async def test_video_with_a_gap_becomes_an_avatar(prep: PrepHarness, short_video: bytes) -> None:
    ready = await prep.build("me", short_video, AvatarParams())
    assert (ready.frames, ready.usable_frames) == (60, 50)
    assert "in 10 frames no face is seen" in ready.summary
    bundle = prep.bundle("me")
    assert [bundle.usable(row) for row in (14, 15, 24, 25)] == [True, False, False, True]
    assert not bundle.landmarks(20).any() and bundle.box(20).empty
    assert np.abs(bundle.landmarks(30) - bundle.landmarks(29)).mean() > 0.3  # the face moves one pixel per frame


async def test_the_larger_of_two_faces_is_used(prep: PrepHarness, tmp_path: Path) -> None:
    larger = np.asarray(cv2.resize(portrait()[30:230, 110:330], None, fx=1.4, fy=1.4), np.uint8)[:200]
    both = np.concatenate([portrait()[30:230, 110:330], larger], 1)
    ready = await prep.build(
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


async def test_a_shift_of_zero_is_not_automatic(prep: PrepHarness, photo: bytes) -> None:
    automatic = await prep.build("a", photo)
    given = await prep.build("b", photo, AvatarParams(bbox_shift=0, extra_margin=10, still_seconds=1.0))
    assert not automatic.params.HasField("bbox_shift") and automatic.bbox_shift_used < 0
    assert given.params.HasField("bbox_shift") and given.bbox_shift_used == 0
    assert prep.bundle("b").box(0).height < prep.bundle("a").box(0).height
    assert (given.bbox_shift_low, given.bbox_shift_high) == (automatic.bbox_shift_low, automatic.bbox_shift_high)


async def test_the_report_and_the_contact_sheet(prep: PrepHarness, short_video: bytes) -> None:
    await prep.build("me", short_video, AvatarParams())
    report = json.loads(await prep.file("me", GetReportRequest.FILE_JSON))
    assert report["version"] == 1 and report["loop"] == {"first": 0, "last": 59}
    assert [frame["verdict"] for frame in report["frames"]] == ["used"] * 15 + ["passed through"] * 10 + ["used"] * 35
    assert "no face is seen from 0.6 s to 1.0 s: cut there or accept the original image" in report["advice"]
    assert report["longest_run"] == {"first": 25, "last": 59, "from_s": 1.0, "to_s": 2.4}
    frame = report["frames"][30]
    assert frame["faces"] == 1 and frame["sharpness"] > 20 and 0.3 < frame["exposure"] < 0.8 and abs(frame["yaw"]) < 20
    data = np.frombuffer(await prep.file("me", GetReportRequest.FILE_CONTACT_SHEET), np.uint8)
    sheet = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert sheet is not None and sheet.shape[1] > 1000
    orange = (np.abs(sheet.astype(int) - (40, 120, 240)).max(2) < 8).sum()
    green = (np.abs(sheet.astype(int) - (90, 190, 70)).max(2) < 8).sum()
    assert 0 < orange < green


async def test_a_missing_report_is_reported(prep: PrepHarness, photo: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.file("nobody", GetReportRequest.FILE_JSON)
    assert_rejected(caught, grpc.StatusCode.NOT_FOUND, "nobody")
    await prep.build("me", photo)
    for name in ("contact_sheet.png", "report.json"):
        (prep.config.avatars_dir / "me" / name).unlink()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.file("me", GetReportRequest.FILE_CONTACT_SHEET)
    assert_rejected(caught, grpc.StatusCode.NOT_FOUND, "avatar 'me' has no contact_sheet.png", "build the avatar again")
    assert (await prep.get("me")).state == Avatar.STATE_READY


async def test_an_avatar_of_an_older_version_satisfies_the_defaults(prep: PrepHarness, photo: bytes) -> None:
    """The older version had no automatic shift; a request with defaults accepts the avatar."""
    await prep.build("me", photo)
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
    assert (await prep.create("me", photo, name="me.jpg")).state == Avatar.STATE_READY
    assert prep.bundle("me").frame(9).shape == (300, 340, 3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", photo, AvatarParams(still_seconds=1.0, frame_rate=FrameRate(numerator=10), face=1))
    assert_rejected(caught, grpc.StatusCode.ALREADY_EXISTS)


async def test_an_end_with_motion_is_left_out_but_its_frames_stay_stored(prep: PrepHarness, tmp_path: Path) -> None:
    """The rows of the bundle start at the first frame of the loop."""
    quiet = panned_frames(60)
    jerky = [np.roll(quiet[0], 5 * (6 - i), axis=1) for i in range(6)]
    ready = await prep.build("me", write_video(tmp_path / "jerky.mp4", jerky + quiet).read_bytes(), AvatarParams())
    assert ready.frames < 66
    bundle = prep.bundle("me")
    first = bundle.info.first_frame
    assert 4 <= first <= 6 and bundle.info.stored_frames == 66 and len(bundle) == ready.frames
    differences = [float(np.abs(bundle.frame(0).astype(int) - image).mean()) for image in (jerky + quiet)[:12]]
    assert int(np.argmin(differences)) == first
    assert bundle.mask(0).max() == 255
    report = json.loads(await prep.file("me", GetReportRequest.FILE_JSON))
    assert [frame["verdict"] for frame in report["frames"][:first]] == ["left out"] * first
    with pytest.raises(IndexError):
        bundle.frame(len(bundle))


async def test_the_requested_face_is_used(prep: PrepHarness, tmp_path: Path) -> None:
    larger = np.asarray(cv2.resize(portrait()[30:230, 110:330], None, fx=1.4, fy=1.4), np.uint8)[:200]
    both = np.concatenate([portrait()[30:230, 110:330], larger], 1)
    two = write_video(tmp_path / "two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 6).read_bytes()
    left = await prep.build("left", two, AvatarParams(face=1))
    assert left.params.face == 1 and prep.bundle("left").box(0).x2 < 220
    await prep.build("point", two, AvatarParams(at=Point(x=100, y=100)))
    assert prep.bundle("point").box(0).x2 < 220
    missing = await prep.build("missing", two, AvatarParams(face=3))
    assert missing.state == Avatar.STATE_FAILED
    assert "there is no face 3 in me.mp4; faces from the left: face 1 at 11" in missing.error


async def test_a_detector_that_is_not_installed_is_rejected_with_the_command(tmp_path: Path, photo: bytes) -> None:
    config = replace(prep_config(tmp_path, detector="dwpose"), models_dir=tmp_path / "models")
    async with running(config) as prep:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("me", photo)
        path = str(config.models_dir / "dwpose" / "dw-ll_ucoco_384.onnx")
        assert_rejected(
            caught, grpc.StatusCode.FAILED_PRECONDITION, "dwpose needs", path, "warmtalk weights fetch dwpose"
        )
        assert prep.unfinished() == []


async def test_progress_is_reported(prep: PrepHarness, long_video: bytes) -> None:
    await prep.create("me", long_video, AvatarParams())
    progress = [avatar.progress for avatar in await prep.watch("me") if avatar.state == Avatar.STATE_CREATING]
    scanning = [one for one in progress if one.stage == "finding faces"]
    assert scanning and all(one.frames_total == LONG_FRAMES and one.seconds_left >= 0 for one in scanning)
    assert [one.frames_done for one in scanning] == sorted(one.frames_done for one in scanning)
