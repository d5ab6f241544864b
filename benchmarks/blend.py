"""python -m benchmarks.blend: time to blend a generated face into a 720p frame on one core."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks import card
from warmtalk.core.blend import BlendRegion
from warmtalk.core.faces import crop_box
from warmtalk.core.types import Box

_FACE = Box(460, 170, 820, 620)
"""A close-up: 360 x 450 pixels of a 1280 x 720 frame."""


def measure() -> card.Rows:
    """Returns the time of one blend."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, (720, 1280, 3), np.uint8)
    face = random.integers(0, 256, (256, 256, 3), np.uint8)
    crop = crop_box(_FACE)
    mask = np.zeros((crop.height, crop.width), np.uint8)
    mask[crop.height // 2 : -crop.height // 6, crop.width // 6 : -crop.width // 6] = 255
    mask = np.asarray(cv2.GaussianBlur(mask, (61, 61), 0), np.uint8)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    region = BlendRegion(frame, mask, _FACE, crop)
    figure = card.median_ms(lambda: region.blend(face))
    cv2.setNumThreads(threads)
    return [("blend_ms_720p", figure, "ms per frame, close-up at 720p, one core (target 1.5)")]


if __name__ == "__main__":
    card.print_card("blend", measure())
