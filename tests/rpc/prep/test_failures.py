"""Failures under the prep service: no ffmpeg, a full volume, a bug, kill -9."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.rpc.prep.harness import LONG_FRAMES, PrepHarness, assert_rejected, prep_config, running, wait_until
from warmtalk.avatar import builder
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Mask
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.services.prep import uploads
from warmtalk.services.prep.jobs import BuildJobs
from warmtalk.services.prep.wiring import SERVICE
from warmtalk.v1.prep_pb2 import Avatar, AvatarParams
from warmtalk.v1.prep_pb2_grpc import PrepServiceStub


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WARMTALK_FFMPEG", "no-such-program")
    find_ffmpeg.cache_clear()
    yield
    find_ffmpeg.cache_clear()


@pytest.mark.usefixtures("no_ffmpeg")
async def test_missing_ffmpeg(prep: PrepHarness, photo: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.create("me", photo)
    assert_rejected(caught, grpc.StatusCode.FAILED_PRECONDITION, "WARMTALK_FFMPEG names 'no-such-program'")


async def test_full_volume_while_uploading(prep: PrepHarness, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "write_json", full)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await prep.upload(photo)
    assert_rejected(caught, grpc.StatusCode.RESOURCE_EXHAUSTED, "the volume is full", "Make room")
    assert not list((prep.config.avatars_dir / ".uploads").glob("*"))


async def test_full_volume_while_building(prep: PrepHarness, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, row: int, mask: Mask) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(builder, "write_mask", full)
        failed = await prep.build("me", photo)
    assert failed.state == Avatar.STATE_FAILED
    assert "the volume is full" in failed.error and "Make room" in failed.error
    assert (await prep.build("me", photo)).state == Avatar.STATE_READY


async def test_a_bug_is_reported_in_the_log_only(
    prep: PrepHarness, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, row: int, mask: Mask) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(builder, "write_mask", broken)
    failed = await prep.build("me", photo)
    assert failed.error == "something went wrong in the service; its log has the cause"


async def test_a_killed_build_resumes(tmp_path: Path, long_video: bytes) -> None:
    config = prep_config(tmp_path)
    address = f"unix:{tmp_path}/prep.sock"
    environ = {**os.environ, "WARMTALK_PREP_LISTEN": address, "WARMTALK_DATA_DIR": str(config.data_dir)}
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "warmtalk.services.prep", env=environ)
    work = config.avatars_dir / ".building" / "me"
    try:
        await wait_ready(address, SERVICE, 30)
        async with channel(address) as link:
            prep = PrepHarness(PrepServiceStub(link), BuildJobs.__new__(BuildJobs), config)
            await prep.create("me", long_video, AvatarParams())
            await wait_until(lambda: (work / "parts" / "00001.safetensors").exists())
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    finished = sorted((work / "parts").glob("*.safetensors"))
    assert 2 <= len(finished) <= LONG_FRAMES // SEGMENT_FRAMES
    kept = {part.stem: (work / "frames" / f"{part.stem}.mp4").stat().st_ino for part in finished}
    async with running(config) as after:
        interrupted = await after.get("me")
        assert interrupted.state == Avatar.STATE_FAILED and "the build resumes" in interrupted.error
        assert (await after.build("me", long_video, AvatarParams())).usable_frames == LONG_FRAMES
        frames = config.avatars_dir / "me" / "frames"
        assert {stem: (frames / f"{stem}.mp4").stat().st_ino for stem in kept} == kept
        assert after.unfinished() == []
        assert len([after.bundle("me").frame(row) for row in (0, 99, LONG_FRAMES - 1)]) == 3
