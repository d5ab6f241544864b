"""Lip edges and mouth opening on painted mouths. One mouth unit is 100 pixels; the origin is (128, 128)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from warmtalk.core.types import Image
from warmtalk.models.mesh.landmark_measures import Field
from warmtalk.models.mesh.lip_refinement import EDGE_SAMPLES, refine_lip_edges
from warmtalk.models.mesh.mouth_opening import detect_opening

Scalar = tuple[float, float, float]


def painted_lips(
    off: float, height: float, inside: Scalar, mesh_gap: float = 0.035
) -> tuple[Image, Field, tuple[Field, Field, Field, Field], tuple[Field, Field]]:
    """Paints red lips in a black beard with a gap of `height`, `off` below the position of the mesh, in mouth units."""
    image = np.full((256, 256, 3), (30, 32, 36), np.uint8)
    middle = (128, round(128 + 100 * off))
    cv2.ellipse(image, middle, (46, 22), 0, 0, 360, (95, 105, 190), -1)
    cv2.ellipse(image, middle, (40, round(50 * height)), 0, 0, 360, inside, -1)
    x = np.linspace(-0.4, 0.4, EDGE_SAMPLES).astype(np.float32)
    up, out = (np.float32(reach) * (1 - (x / 0.45) ** 2) for reach in (mesh_gap / 2, 0.2))
    frame = (np.eye(2, dtype=np.float32) * 100, np.array([128, 128], np.float32))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1), np.uint8), x, (-out, -up, up, out), frame


@pytest.mark.parametrize("off", [-0.04, 0.0, 0.04])
def test_the_line_between_closed_lips_is_found(off: float) -> None:
    """The dark line is `off` below the position of the mesh."""
    image = np.full((256, 256, 3), (110, 120, 190), np.uint8)
    cv2.line(image, (80, round(128 + 100 * off)), (176, round(128 + 100 * off)), (50, 40, 80), 3)
    line = np.stack([np.linspace(-0.4, 0.4, EDGE_SAMPLES), np.zeros(EDGE_SAMPLES)], 1).astype(np.float32)
    frame = (np.eye(2, dtype=np.float32) * 100, np.array([128, 128], np.float32))
    upper, lower = refine_lip_edges(cv2.GaussianBlur(image, (0, 0), 2), line, line + np.float32([[0, 0.02]]), frame)
    assert np.array_equal(upper, lower)
    assert np.abs(upper[8:25] - off).max() < 0.015


@pytest.mark.parametrize("inside", [(190, 200, 205), (18, 15, 30)], ids=["teeth", "dark"])
@pytest.mark.parametrize("off", [-0.03, 0.05])
def test_an_opening_that_the_mesh_misses_is_found_by_colour(inside: Scalar, off: float) -> None:
    image, x, lips, frame = painted_lips(off, 0.12, inside)
    top, bottom, certainty = detect_opening(image, x, lips, frame)
    assert certainty == 1
    assert np.abs([top[EDGE_SAMPLES // 2] - (off - 0.06), bottom[EDGE_SAMPLES // 2] - (off + 0.06)]).max() < 0.03


def test_a_shadow_between_closed_lips_is_no_opening() -> None:
    """The shadow is as wide as an opening, but the mesh reports closed lips."""
    image, x, lips, frame = painted_lips(0.0, 0.06, (30, 25, 60), mesh_gap=0.01)
    assert detect_opening(image, x, lips, frame)[2] == 0
