"""BlendRegion beyond the golden vectors: empty masks, boxes outside the frame, sub-pixel boxes, reuse."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from warmtalk.core.blend import BlendRegion
from warmtalk.core.faces import crop_face
from warmtalk.core.types import FACE_SIZE, Box, FloatBox

RANDOM = np.random.default_rng(1)
FRAME = RANDOM.integers(0, 256, (120, 160, 3), np.uint8)
FACE = RANDOM.integers(0, 256, (FACE_SIZE, FACE_SIZE, 3), np.uint8)
CROP = Box(30, 10, 130, 110)
INNER = Box(50, 30, 110, 100)


def mask(value: int = 255) -> npt.NDArray[np.uint8]:
    return np.full((100, 100), value, np.uint8)


def test_a_full_mask_gives_exactly_the_resized_face() -> None:
    box, pixels = BlendRegion(FRAME, mask(), INNER, CROP).blend(FACE)
    assert box == INNER
    assert pixels.shape == (70, 60, 3) and pixels.dtype == np.uint8


def test_the_region_is_limited_to_the_mask() -> None:
    some = mask(0)
    some[60:80, 30:40] = 9
    box, _ = BlendRegion(FRAME, some, INNER, CROP).blend(FACE)
    assert box == Box(60, 70, 70, 90)


@pytest.mark.parametrize("alpha", [1, 127, 128, 254])
def test_division_rounds_to_nearest(alpha: int) -> None:
    face = np.full_like(FACE, 77)
    box, pixels = BlendRegion(FRAME, mask(alpha), INNER, CROP).blend(face)
    source = FRAME[box.y1 : box.y2, box.x1 : box.x2].astype(float)
    assert np.array_equal(pixels, np.floor((source * (255 - alpha) + 77.0 * alpha) / 255 + 0.5))


@pytest.mark.parametrize("shift", [(-200, 0), (200, 0), (0, -200), (0, 200)])
def test_outside_the_frame_nothing_changes(shift: tuple[int, int]) -> None:
    dx, dy = shift
    face, crop = (Box(b.x1 + dx, b.y1 + dy, b.x2 + dx, b.y2 + dy) for b in (INNER, CROP))
    box, pixels = BlendRegion(FRAME, mask(), face, crop).blend(FACE)
    assert box.empty and pixels.size == 0


def test_empty_mask_changes_nothing() -> None:
    assert BlendRegion(FRAME, mask(0), INNER, CROP).blend(FACE)[0].empty


def test_results_are_independent_of_each_other() -> None:
    region = BlendRegion(FRAME, mask(), INNER, CROP)
    _, first = region.blend(FACE)
    kept = first.copy()
    region.blend(255 - FACE)
    assert np.array_equal(first, kept)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        BlendRegion(FRAME, mask()[:50], INNER, CROP)
    with pytest.raises(ValueError, match="256"):
        BlendRegion(FRAME, mask(), INNER, CROP).blend(FACE[:100])


def test_a_float_box_of_whole_pixels_equals_the_box() -> None:
    smooth = np.asarray(cv2.GaussianBlur(FACE, (0, 0), 4), np.uint8)
    box, exact = BlendRegion(FRAME, mask(), INNER, CROP).blend(smooth)
    same, placed = BlendRegion(FRAME, mask(), FloatBox(*map(float, INNER.as_tuple())), CROP).blend(smooth)
    assert same == box
    assert np.abs(placed.astype(int) - exact).max() <= 1


def test_a_face_moves_with_sub_pixel_precision() -> None:
    ramp = np.repeat(np.linspace(20, 220, FACE_SIZE).astype(np.uint8)[None, :, None], FACE_SIZE, 0).repeat(3, 2)
    pixels = [
        BlendRegion(FRAME, mask(), FloatBox(50 + part, 30, 110 + part, 100), CROP).blend(ramp)[1][:, 5:-5].astype(float)
        for part in (0.0, 0.25, 0.45)
    ]
    slope = np.gradient(pixels[0], axis=1).mean()
    assert abs((pixels[0] - pixels[1]).mean() / slope - 0.25) < 0.05
    assert abs((pixels[0] - pixels[2]).mean() / slope - 0.45) < 0.05


def test_a_cropped_face_is_pasted_back_to_the_same_position() -> None:
    frame = np.asarray(cv2.GaussianBlur(FRAME, (0, 0), 2), np.uint8)
    source = FloatBox(50.4, 29.7, 110.6, 100.2)
    box, pixels = BlendRegion(frame, mask(), source, CROP).blend(crop_face(frame, source))
    assert np.abs(pixels.astype(int) - frame[box.y1 : box.y2, box.x1 : box.x2])[1:-1, 1:-1].max() <= 2
