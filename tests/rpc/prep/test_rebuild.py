"""Repeated requests for one avatar: accepted as finished, rejected, or built again."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from tests.footage import grey_frames, write_photo
from tests.rpc.prep.harness import SHORT_PARAMS, PrepHarness, assert_rejected, prep_config, running
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, CreateAvatarRequest


async def test_a_repeated_request_is_ready_immediately(prep: PrepHarness, photo: bytes) -> None:
    upload = await prep.upload(photo, "me.jpg")
    request = CreateAvatarRequest(avatar_id="me", upload_id=upload.upload_id, params=SHORT_PARAMS)
    first = (await prep.stub.CreateAvatar(request)).avatar
    again = (await prep.stub.CreateAvatar(request)).avatar
    assert again.create_time == first.create_time or again.state == Avatar.STATE_READY
    await prep.watch("me")
    modified = (prep.config.avatars_dir / "me" / "avatar.json").stat().st_mtime_ns
    assert (await prep.stub.CreateAvatar(request)).avatar.state == Avatar.STATE_READY  # the same upload
    assert (await prep.create("me", photo, name="copy.jpg")).state == Avatar.STATE_READY  # the same content
    assert (prep.config.avatars_dir / "me" / "avatar.json").stat().st_mtime_ns == modified


async def test_an_id_is_not_reused_without_replace(prep: PrepHarness, photo: bytes, short_video: bytes) -> None:
    await prep.build("me", photo)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", short_video)
    assert_rejected(caught, grpc.StatusCode.ALREADY_EXISTS, "avatar 'me' was built from another source", "replace")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", photo, AvatarParams(bbox_shift=3))
    assert_rejected(
        caught, grpc.StatusCode.ALREADY_EXISTS, "was built with another bbox_shift, fps, still_seconds. Use"
    )
    assert (await prep.create("me", short_video, replace=True)).state == Avatar.STATE_CREATING
    assert (await prep.watch("me"))[-1].frames == 24  # 60 frames of 25 fps at 10 fps
    assert prep.unfinished() == []


async def test_a_better_detector_is_used_on_request(
    prep: PrepHarness, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights fetched after the build do not change the request; the avatar's advice names the improvement."""
    made = await prep.build("me", photo)
    assert not any("--replace" in advice for advice in made.advice)
    monkeypatch.setattr("warmtalk.models.checkpoints.optional_models.require", lambda kit, models_dir: [])
    again = await prep.create("me", photo)
    assert again.state == Avatar.STATE_READY and again.create_time == made.create_time
    advice = "detector dwpose and parsing bisenet are available but not used: create the avatar again with --replace"
    assert advice in again.advice
    assert (await prep.create("me", photo, replace=True)).state == Avatar.STATE_CREATING
    await prep.watch("me")


async def test_replacing_an_avatar_by_the_same_avatar_changes_nothing(prep: PrepHarness, photo: bytes) -> None:
    """A request that is sent again after a lost response."""
    made = await prep.build("me", photo)
    again = await prep.create("me", photo, replace=True)
    assert again.state == Avatar.STATE_READY and again.create_time == made.create_time


async def test_a_renderer_installed_later_is_advised_and_prepared(
    prep: PrepHarness, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prep.build("me", photo)
    monkeypatch.setattr("warmtalk.renderers.loading.prepared_renderers", lambda config: ("mesh", "musetalk"))
    again = await prep.create("me", photo)
    assert "renderer musetalk is available but not used: create the avatar again with --replace" in again.advice
    assert (await prep.create("me", photo, replace=True)).state == Avatar.STATE_CREATING
    await prep.watch("me")


async def test_a_named_detector_is_a_parameter(tmp_path: Path, photo: bytes) -> None:
    async with running(prep_config(tmp_path)) as prep:
        await prep.build("me", photo)
    async with running(prep_config(tmp_path, detector="mesh", parsing="mesh")) as prep:
        assert (await prep.create("me", photo)).state == Avatar.STATE_READY
    path = tmp_path / "data" / "avatars" / "me" / "avatar.json"
    info = json.loads(path.read_text())
    info["params"]["detector"] = "dwpose"
    path.write_text(json.dumps(info))
    async with running(prep_config(tmp_path)) as prep:
        assert (await prep.create("me", photo)).state == Avatar.STATE_READY
    async with running(prep_config(tmp_path, detector="mesh")) as prep:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("me", photo)
        assert_rejected(caught, grpc.StatusCode.ALREADY_EXISTS, "was built with another detector")


async def test_a_failed_replacement_keeps_the_avatar(prep: PrepHarness, photo: bytes, tmp_path: Path) -> None:
    await prep.build("me", photo)
    await prep.create("me", write_photo(tmp_path / "g.png", grey_frames(1)[0]).read_bytes(), replace=True)
    failed = (await prep.watch("me"))[-1]
    assert failed.state == Avatar.STATE_FAILED and "The previous avatar is unchanged" in failed.error
    assert len(prep.bundle("me")) == 10
    assert (await prep.create("me", photo)).state == Avatar.STATE_READY
