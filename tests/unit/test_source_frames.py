"""The cache of source frames: decoding in advance, memory limit, composition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import HEIGHT, WIDTH, grey, make_avatar
from warmtalk.avatar.source_frames import SourceFrames
from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.errors import Damaged
from warmtalk.core.types import Box, Patch
from warmtalk.media.i420 import to_i420

SEGMENT_BYTES = SEGMENT_FRAMES * WIDTH * HEIGHT * 3 // 2


def test_rows_equal_the_source(tmp_path: Path) -> None:
    frames = SourceFrames(Bundle(make_avatar(tmp_path, rows=120)), 1 << 30)
    for row in (0, 49, 50, 119, 3):
        assert np.abs(frames.source_frame(row).astype(int) - to_i420(grey(row))).max() <= 3
    assert frames.nbytes == 3 * SEGMENT_BYTES


@pytest.mark.parametrize(("before", "rows", "after"), [(7, 110, 3), (60, 30, 30), (0, 49, 2)])
def test_rows_start_at_the_first_frame_of_the_loop(tmp_path: Path, before: int, rows: int, after: int) -> None:
    bundle = Bundle(make_avatar(tmp_path, rows=rows, before=before, after=after))
    frames = SourceFrames(bundle, 1 << 30)
    for row in (0, rows // 2, rows - 1):
        assert np.abs(frames.source_frame(row).astype(int) - to_i420(grey(before + row))).max() <= 3
        assert np.array_equal(frames.source_frame(row), to_i420(bundle.frame(row)))


def test_neighbouring_segments_are_decoded_in_advance(tmp_path: Path) -> None:
    path = make_avatar(tmp_path, rows=120)
    frames = SourceFrames(Bundle(path), 1 << 30)
    frames.source_frame(0)
    frames._loader.submit(int).result()  # runs after the queued segments
    (path / "frames" / "00001.mp4").unlink()
    frames.source_frame(60)
    with pytest.raises(Damaged):
        SourceFrames(Bundle(path), 1 << 30).source_frame(60)


def test_memory_is_bounded(tmp_path: Path) -> None:
    frames = SourceFrames(Bundle(make_avatar(tmp_path, rows=400)), 4 * SEGMENT_BYTES)
    for row in range(0, 400, 25):
        frames.source_frame(row)
        assert frames.nbytes <= 5 * SEGMENT_BYTES


def test_an_empty_patch_is_the_source(tmp_path: Path) -> None:
    frames = SourceFrames(Bundle(make_avatar(tmp_path)), 1 << 30)
    empty = Patch(0, 2, Box(0, 0, 0, 0), np.empty((0, 0, 3), np.uint8))
    assert np.array_equal(frames.composite(empty), frames.source_frame(2))
    square = Patch(0, 2, Box(8, 8, 20, 20), np.full((12, 12, 3), 255, np.uint8))
    assert frames.composite(square)[10, 10] == 235
    assert frames.source_frame(2)[10, 10] < 120, "the source frame is not modified"
