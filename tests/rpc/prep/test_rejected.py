"""Invalid requests and sources are rejected with a plain message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.footage import grey_frames, run_ffmpeg, write_photo, write_video
from tests.rpc.prep.harness import INVALID, PrepHarness, assert_rejected, prep_config, running, wait_until
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams, CreateAvatarRequest, UploadHeader, UploadSourceRequest

BAD_IDS = ["", "..", "../x", "a/b", "/etc", "a\0b", "A", "a b", "-a", "_a", "a" * 300, "ä", "a\n", ".building"]


@pytest.mark.parametrize("avatar_id", BAD_IDS)
async def test_invalid_ids_never_reach_a_path(prep: PrepHarness, photo: bytes, avatar_id: str) -> None:
    for call in (prep.create(avatar_id, photo), prep.get(avatar_id), prep.watch(avatar_id), prep.delete(avatar_id)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert_rejected(caught, INVALID, "avatar_id is ", "Use 1 to 63 of a-z")
    assert prep.unfinished() == []


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "me.mp4", ["me.mp4 is empty"]),
        (b"not a video at all, just text named like a video", "me.mp4", ["me.mp4 is not a video or image", "Use mp4"]),
        (b"x", "me.mp4", ["is not a video or image"]),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/x\n", "me.mp4", ["is a list of other files"]),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "me.mp4", ["is a list of other files"]),
        (b"GIF89a" + bytes(3_000_000), "me.gif", ["me.gif is a GIF"]),
        (b"\0\0\0\x20ftypisom" + bytes(5_000_000), "me.mp4", ["me.mp4 is larger than 4 MiB"]),
        (b"\x89PNG\r\n\x1a\n", "", ["file_name has 0 characters"]),
        (b"\x89PNG\r\n\x1a\n", "x" * 256, ["file_name has 256 characters"]),
    ],
)
async def test_invalid_uploads_are_rejected(prep: PrepHarness, content: bytes, name: str, words: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(content, name)
    assert_rejected(caught, INVALID, *words)
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_upload_messages_in_the_wrong_order_are_rejected(prep: PrepHarness, photo: bytes) -> None:
    async def send(*requests: UploadSourceRequest) -> AsyncIterator[UploadSourceRequest]:
        for request in requests:
            yield request

    header = UploadSourceRequest(header=UploadHeader(file_name="me.jpg"))
    data = UploadSourceRequest(data=photo)
    for requests, word in (
        ((), "starts with its header"),
        ((data,), "starts with its header"),
        ((header, header), "one header"),
        ((header, UploadSourceRequest(data=bytes(2 << 20))), "2097152 bytes"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await prep.stub.UploadSource(send(*requests))
        assert_rejected(caught, INVALID, word)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(photo, size_bytes=len(photo) + 1)
    assert_rejected(caught, INVALID, "me.mp4 arrived with")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(photo, size_bytes=1 << 40)
    assert_rejected(caught, INVALID, "me.mp4 is larger than 4 MiB")
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_a_cancelled_upload_leaves_nothing(prep: PrepHarness, photo: bytes) -> None:
    async def stalled() -> AsyncIterator[UploadSourceRequest]:
        yield UploadSourceRequest(header=UploadHeader(file_name="me.jpg"))
        yield UploadSourceRequest(data=photo[:1000])
        await asyncio.sleep(60)

    call = prep.stub.UploadSource(stalled())
    folder = prep.config.avatars_dir / ".uploads"
    await wait_until(lambda: folder.is_dir() and any(folder.iterdir()))
    call.cancel()
    await wait_until(lambda: not any(folder.iterdir()))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("grey photo", ["no usable face in me.mp4", "one face looks at the camera"]),
        ("grey video", ["no usable face in me.mp4", "one face looks at the camera"]),
        ("truncated video", ["me.mp4 is cut off: its end is missing"]),
        ("truncated photo", ["me.mp4 is cut off: its end is missing"]),
        ("random bytes", ["me.mp4 is cut off"]),
        ("audio only", ["me.mp4 holds no video"]),
        ("too long", ["me.mp4 is longer than 8 s"]),
        ("too large", ["me.mp4 is too large"]),
    ],
)
async def test_invalid_sources_fail_with_a_plain_message(
    tmp_path: Path, photo: bytes, short_video: bytes, kind: str, words: list[str]
) -> None:
    def source() -> bytes:
        if kind == "audio only":
            run_ffmpeg(["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(tmp_path / "a.mp4")])
            return (tmp_path / "a.mp4").read_bytes()
        if kind == "too large":
            return write_video(tmp_path / "a.mp4", [np.zeros((400, 400, 3), np.uint8)] * 3).read_bytes()
        return {
            "grey photo": lambda: write_photo(tmp_path / "g.png", grey_frames(1)[0]).read_bytes(),
            "grey video": lambda: write_video(tmp_path / "g.mp4", grey_frames(10)).read_bytes(),
            "truncated video": lambda: short_video[: len(short_video) // 2],
            "truncated photo": lambda: photo[: len(photo) // 2],
            "random bytes": lambda: b"\0\0\0\x20ftypisom" + os.urandom(5000),
            "too long": lambda: write_video(tmp_path / "l.mp4", grey_frames(30), fps="3").read_bytes(),
        }[kind]()

    async with running(prep_config(tmp_path, max_source_s=8.0, max_source_pixels=350 * 350)) as prep:
        failed = await prep.build("me", source())
        assert failed.state == Avatar.STATE_FAILED
        assert all(word in failed.error for word in words), failed.error
        assert str(tmp_path) not in failed.error
        assert (await prep.get("me")).error == failed.error
        assert not (prep.config.avatars_dir / "me").exists()
        assert prep.unfinished() == ["me.failed.json"]
    async with running(prep.config) as after:  # the reason survives the process
        assert (await after.get("me")).error == failed.error
        assert (await after.build("me", photo)).state == Avatar.STATE_READY
        assert after.unfinished() == []


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
async def test_parameters_out_of_range(prep: PrepHarness, photo: bytes, params: AvatarParams, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", photo, params)
    assert_rejected(caught, INVALID, word)


@pytest.mark.parametrize("upload_id", ["", "nonsense", "../../etc/passwd", "0" * 32, "a\0b", "x" * 300])
async def test_unknown_uploads(prep: PrepHarness, upload_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.stub.CreateAvatar(CreateAvatarRequest(avatar_id="me", upload_id=upload_id))
    assert_rejected(caught, grpc.StatusCode.NOT_FOUND, "there is no upload", "send the file again")


async def test_unknown_avatars(prep: PrepHarness) -> None:
    for call in (prep.get("nobody"), prep.watch("nobody"), prep.delete("nobody")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert_rejected(caught, grpc.StatusCode.NOT_FOUND, "there is no avatar 'nobody'")
