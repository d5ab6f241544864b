"""Spoiled files at the media door: each is read or refused in words; nothing hangs, falls over or stays behind.

WARMTALK_FUZZ is how many files are tried; `make fuzz` tries thousands.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import grpc
import pytest

from tests.mutations import FILMS, PHOTOS, spoiled, whole_files
from tests.rpc.prep.harness import prep_config, running
from warmtalk.core.errors import BadMedia
from warmtalk.media import audio_decode
from warmtalk.media.photo_decode import decode_photo
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.v1.prep_pb2 import Avatar

FILES = int(os.environ.get("WARMTALK_FUZZ", "210"))
SERVED = FILES // 10
"""Of them, sent to a running service."""
LIMITS = SourceLimits(max_seconds=2.0, max_pixels=1 << 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return whole_files(tmp_path_factory.mktemp("whole"))


def through_the_door(kind: str, path: Path) -> str:
    """ "read", or the reason for the refusal."""
    try:
        if kind in FILMS:
            with VideoReader(path, Fraction(25), LIMITS, name="a.film") as frames:
                for image in frames:
                    assert image.shape[0] * image.shape[1] <= LIMITS.max_pixels * 2  # sides are made even
        elif kind in PHOTOS:
            decode_photo(path, name="a.photo")
        else:
            audio_decode.decode_audio(path.read_bytes(), max_s=5.0)
    except BadMedia as error:
        assert error.hint and str(path) not in str(error)
        assert len(str(error)) < 600
        return error.message
    return "read"


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def top_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_files_are_read(files: dict[str, bytes], tmp_path: Path) -> None:
    for kind, content in files.items():
        (tmp_path / kind).write_bytes(content)
        assert through_the_door(kind, tmp_path / kind) == "read", kind


def test_spoiled_files_are_read_or_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    before, threads = children(), threading.active_count()

    def one(number: int) -> str:
        kind, content = spoiled(files, number)
        path = tmp_path / str(number)
        path.write_bytes(content)
        try:
            return through_the_door(kind, path)
        except Exception as error:
            raise AssertionError(f"file {number}, {kind}: {error!r}") from error
        finally:
            path.unlink()

    with ThreadPoolExecutor(2) as pool:
        ends = Counter("read" if end == "read" else "refused" for end in pool.map(one, range(FILES)))
    assert ends["read"] and ends["refused"], ends
    assert list(tmp_path.iterdir()) == []
    assert children() <= before
    assert threading.active_count() <= threads


async def test_the_service_outlives_spoiled_files(files: dict[str, bytes], tmp_path: Path) -> None:
    pictures = {kind: content for kind, content in files.items() if kind in FILMS or kind in PHOTOS}
    async with running(prep_config(tmp_path)) as prep:
        for number in range(SERVED):
            kind, content = spoiled(pictures, number + 1_000_000)
            try:
                built = await prep.build(f"a{number}", content, name=f"../../a{number}.{kind}")
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (number, error)
                continue
            if built.state == Avatar.STATE_READY:
                assert len(prep.bundle(f"a{number}")) == built.frames
            else:
                assert "something went wrong" not in built.error, (number, kind, built.error)
            await prep.delete(f"a{number}")
        good = await prep.build("good", files["mp4"])
        assert good.state == Avatar.STATE_READY
        assert prep.unfinished() == []
    assert top_of(tmp_path) == ["data"]
