"""Mutated media files are decoded or refused with a reason. No decoder hangs, crashes or leaves anything behind.

WARMTALK_FUZZ is the number of files; `make fuzz` tries thousands.
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

from tests.mutations import PHOTOS, VIDEOS, mutated_file, valid_files
from tests.rpc.prep.harness import prep_config, running
from warmtalk.core.errors import BadMedia
from warmtalk.media import audio_decode
from warmtalk.media.photo_decode import decode_photo
from warmtalk.media.video_decode import SourceLimits, VideoReader
from warmtalk.v1.prep_pb2 import Avatar

FILES = int(os.environ.get("WARMTALK_FUZZ", "210"))
UPLOADS = FILES // 10
"""Number of files that are uploaded to a running service."""
LIMITS = SourceLimits(max_seconds=2.0, max_pixels=1 << 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return valid_files(tmp_path_factory.mktemp("valid"))


def decode(kind: str, path: Path) -> str:
    """Returns "decoded", or the reason for the refusal."""
    try:
        if kind in VIDEOS:
            with VideoReader(path, Fraction(25), LIMITS, name="a.video") as frames:
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
    return "decoded"


def child_pids() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_valid_files_are_decoded(files: dict[str, bytes], tmp_path: Path) -> None:
    for kind, content in files.items():
        (tmp_path / kind).write_bytes(content)
        assert decode(kind, tmp_path / kind) == "decoded", kind


def test_mutated_files_are_decoded_or_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    before, threads = child_pids(), threading.active_count()

    def decode_mutated(number: int) -> str:
        kind, content = mutated_file(files, number)
        path = tmp_path / str(number)
        path.write_bytes(content)
        try:
            return decode(kind, path)
        except Exception as error:
            raise AssertionError(f"file {number}, {kind}: {error!r}") from error
        finally:
            path.unlink()

    with ThreadPoolExecutor(2) as pool:
        results = pool.map(decode_mutated, range(FILES))
        counts = Counter("decoded" if result == "decoded" else "refused" for result in results)
    assert counts["decoded"] and counts["refused"], counts
    assert list(tmp_path.iterdir()) == []
    assert child_pids() <= before
    assert threading.active_count() <= threads


async def test_the_service_survives_mutated_files(files: dict[str, bytes], tmp_path: Path) -> None:
    sources = {kind: content for kind, content in files.items() if kind in VIDEOS or kind in PHOTOS}
    async with running(prep_config(tmp_path)) as prep:
        for number in range(UPLOADS):
            kind, content = mutated_file(sources, number + 1_000_000)
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
    assert names_in(tmp_path) == ["data"]
