"""Frames as planes, and patches pasted into frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from warmtalk.core.types import Box, Image
from warmtalk.media.i420 import paste_patch, planes, to_i420


def random_image(height: int = 60, width: int = 80) -> Image:
    small = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize(
    ("bgr", "yuv"), [((0, 0, 0), (16, 128, 128)), ((255, 255, 255), (235, 128, 128)), ((0, 0, 255), (63, 102, 240))]
)
def test_colours_of_bt_709(bgr: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    image = np.full((4, 6, 3), bgr, np.uint8)
    assert [set(plane.ravel().tolist()) for plane in planes(to_i420(image))] == [{value} for value in yuv]


@pytest.mark.parametrize("box", [Box(10, 8, 42, 30), Box(11, 9, 42, 31), Box(0, 0, 80, 60), Box(79, 59, 80, 60)])
def test_a_patch_of_the_frame_itself_changes_nothing(box: Box) -> None:
    image = random_image()
    original = to_i420(image)
    pasted = original.copy()
    paste_patch(pasted, box, image[box.y1 : box.y2, box.x1 : box.x2])
    assert np.array_equal(planes(pasted)[0], planes(original)[0])
    assert np.abs(pasted.astype(int) - original).max() <= 12, "pairs of pixels at the edges of the box"
    inside = np.s_[(box.y1 + 1) // 2 : box.y2 // 2, (box.x1 + 1) // 2 : box.x2 // 2]
    for new, old in zip(planes(pasted)[1:], planes(original)[1:], strict=True):
        assert np.array_equal(new[inside], old[inside])


def test_alpha_blends() -> None:
    frame, box = to_i420(np.full((20, 20, 3), 50, np.uint8)), Box(4, 4, 12, 12)
    paste_patch(frame, box, np.full((8, 8, 3), 150, np.uint8), 0.5)
    assert set(planes(frame)[0][4:12, 4:12].ravel().tolist()) == {102}
    assert set(planes(frame)[0][12:].ravel().tolist()) == {59}


def test_a_patch_at_the_edge_of_an_odd_frame() -> None:
    image = random_image(35, 41)
    frame = to_i420(image)
    paste_patch(frame, Box(30, 20, 41, 35), image[20:35, 30:41])
    assert np.abs(frame.astype(int) - to_i420(image)).max() <= 12
