"""The same avatar again: when it is there already, when it is built anew."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from tests.footage import grey_frames, write_photo
from tests.rpc.prep.harness import SHORT, Prep, configured, refused, running
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, CreateAvatarRequest


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
    refused(caught, grpc.StatusCode.ALREADY_EXISTS, "avatar 'me' was built from another source", "replace")
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
    monkeypatch.setattr("warmtalk.models.checkpoints.optional_models.require", lambda kit, models_dir: [])
    again = await prep.create("me", still)
    assert again.state == Avatar.STATE_READY and again.create_time == made.create_time
    advice = "detector dwpose and parsing bisenet are available but not used: create the avatar again with --replace"
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
    monkeypatch.setattr("warmtalk.renderers.loading.prepared_renderers", lambda config: ("mesh", "musetalk"))
    again = await prep.create("me", still)
    assert "renderer musetalk is available but not used: create the avatar again with --replace" in again.advice
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
    await prep.create("me", write_photo(tmp_path / "g.png", grey_frames(1)[0]).read_bytes(), other=True)
    failed = (await prep.watch("me"))[-1]
    assert failed.state == Avatar.STATE_FAILED and "The previous avatar is unchanged" in failed.error
    assert len(prep.bundle("me")) == 10
    assert (await prep.create("me", still)).state == Avatar.STATE_READY
