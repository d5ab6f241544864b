"""The build queue: list, delete, expiry of uploads, the configured avatar."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.footage import grey_frames, write_photo
from tests.rpc.prep.harness import INVALID, PrepHarness, assert_rejected, prep_config, running, wait_until
from warmtalk.services.prep.wiring import build_configured_avatar
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, ListAvatarsRequest


async def test_the_list_has_pages_and_all_states(prep: PrepHarness, photo: bytes, tmp_path: Path) -> None:
    await prep.build("b", photo)
    await prep.build("a", write_photo(tmp_path / "g.png", grey_frames(1)[0]).read_bytes())
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
    assert_rejected(caught, INVALID, "page_size is 1001")


async def test_delete_removes_all_files(prep: PrepHarness, photo: bytes) -> None:
    await prep.build("me", photo)
    await prep.delete("me")
    assert not (prep.config.avatars_dir / "me").exists() and prep.unfinished() == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.get("me")
    assert_rejected(caught, grpc.StatusCode.NOT_FOUND)
    assert (await prep.build("me", photo)).state == Avatar.STATE_READY


async def test_delete_stops_a_build_and_its_watchers(prep: PrepHarness, long_video: bytes, photo: bytes) -> None:
    await prep.create("me", long_video, AvatarParams())
    watching = asyncio.create_task(prep.watch("me"))
    parts = prep.config.avatars_dir / ".building" / "me" / "parts"
    await wait_until(lambda: (parts / "00000.safetensors").exists())
    await prep.create("waits", long_video, AvatarParams())
    await prep.delete("waits")
    await prep.delete("me")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watching
    assert_rejected(caught, grpc.StatusCode.NOT_FOUND, "there is no avatar 'me'")
    assert prep.unfinished() == []
    assert (await prep.build("me", photo)).state == Avatar.STATE_READY


async def test_a_full_queue_says_when_to_retry(tmp_path: Path, long_video: bytes) -> None:
    async with running(prep_config(tmp_path, max_queue=1)) as prep:
        await prep.create("one", long_video, AvatarParams())
        await wait_until(lambda: prep.jobs._running is not None)
        await prep.create("two", long_video, AvatarParams())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.create("three", long_video, AvatarParams())
        assert_rejected(caught, grpc.StatusCode.RESOURCE_EXHAUSTED, "1 builds are waiting already")
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # an AioRpcError is a Call too
        assert status is not None
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


async def test_expired_and_used_uploads_are_removed(prep: PrepHarness, photo: bytes) -> None:
    old = await prep.upload(photo)
    folder = prep.config.avatars_dir / ".uploads"
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    await prep.build("me", photo)
    assert not list(folder.glob(f"{old.upload_id}*"))
    assert [path.suffix for path in folder.iterdir()] == [".json"]


async def test_the_configured_avatar_is_built_at_start(prep: PrepHarness, photo: bytes, tmp_path: Path) -> None:
    source = tmp_path / "me.jpg"
    source.write_bytes(photo)
    config = replace(prep.config, avatar_id="me", video_path=str(source), preparation=True)
    build_configured_avatar(config, prep.jobs)
    assert (await prep.watch("me"))[-1].state == Avatar.STATE_READY
    assert source.exists()
    build_configured_avatar(replace(config, video_path=str(tmp_path / "gone.mp4")), prep.jobs)  # logged, not raised
    assert (await prep.get("me")).state == Avatar.STATE_READY
