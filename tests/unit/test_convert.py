"""Conversion between protobuf messages and core types, in both directions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import Box, Patch
from warmtalk.rpc import convert
from warmtalk.v1.media_pb2 import FrameBatch, FrameRate


def some_patches() -> list[Patch]:
    smooth = np.add.outer(np.arange(20), np.arange(30))[..., None] * np.array([1, 2, 3])
    empty = np.empty((0, 0, 3), np.uint8)
    return [
        Patch(7, 3, Box(10, 20, 40, 40), smooth.astype(np.uint8)),
        Patch(8, 4, Box(0, 0, 0, 0), empty),
        Patch(9, 5, Box(1, 2, 31, 22), smooth.astype(np.uint8)),
    ]


def test_patches_survive_the_wire() -> None:
    before = some_patches()
    message = FrameBatch.FromString(
        convert.frame_batch(before, FrameBatch.PIXEL_FORMAT_UNSPECIFIED).SerializeToString()
    )
    assert message.pixel_format == FrameBatch.PIXEL_FORMAT_BGR24
    for a, b in zip(before, convert.patches(message), strict=True):
        assert (a.frame, a.row, a.box) == (b.frame, b.row, b.box)
        assert np.array_equal(a.pixels, b.pixels)


def test_jpeg_is_smaller_and_close() -> None:
    before = some_patches()
    raw = convert.frame_batch(before, FrameBatch.PIXEL_FORMAT_BGR24)
    jpeg = convert.frame_batch(before, FrameBatch.PIXEL_FORMAT_JPEG)
    assert len(jpeg.pixels) < len(raw.pixels)
    for a, b in zip(before, convert.patches(jpeg), strict=True):
        assert a.pixels.shape == b.pixels.shape
        assert not a.pixels.size or np.abs(a.pixels.astype(int) - b.pixels).max() < 12


def test_pixels_that_do_not_fit_are_refused() -> None:
    message = convert.frame_batch(some_patches(), FrameBatch.PIXEL_FORMAT_BGR24)
    message.pixels = message.pixels[:-1]
    with pytest.raises(InvalidInput, match="bytes for"):
        convert.patches(message)


def test_samples() -> None:
    sound = np.array([0.0, -1.0, 0.5], np.float32)
    assert np.array_equal(convert.samples(convert.samples_bytes(sound), "audio"), sound)
    with pytest.raises(InvalidInput, match="multiple of 4"):
        convert.samples(b"abc", "audio")
    with pytest.raises(InvalidInput, match="NaN"):
        convert.samples(convert.samples_bytes(np.array([0.0, np.nan], np.float32)), "audio")


def test_frame_rates() -> None:
    assert convert.frame_rate(FrameRate(), Fraction(25)) == 25
    ntsc = FrameRate(numerator=30000, denominator=1001)
    assert convert.frame_rate(ntsc, Fraction(25)) == Fraction(30000, 1001)
    assert convert.frame_rate_message(Fraction(30000, 1001)) == ntsc
    with pytest.raises(InvalidInput, match="frame_rate is 500"):
        convert.frame_rate(FrameRate(numerator=500), Fraction(25))
