"""Face box, crop and mesh mask: rules in numbers, and checks on a real face."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests import footage
from warmtalk.core.faces import IBUG_68, crop_box, crop_face, face_box, ibug68
from warmtalk.core.masks import mesh_mask
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder


@pytest.fixture(scope="module")
def portrait() -> Image:
    return footage.portrait()


@pytest.fixture(scope="module")
def mesh(portrait: Image) -> Points:
    return FaceFinder().find(portrait)[0].landmarks


def face(left: float = 100, right: float = 200, middle: float = 150, chin: float = 230) -> Points:
    """Returns 68 points; only the extremes and the middle of the nose matter."""
    across = (left + right) / 2
    points = np.full((68, 2), [across, middle], np.float32)
    points[0], points[16], points[8] = (left, middle), (right, middle), (across, chin)
    return points


def test_the_68_points_are_at_the_named_features(mesh: Points) -> None:
    points = ibug68(mesh)
    assert len(set(IBUG_68.tolist())) == 68
    assert points[8, 1] == points[:, 1].max()  # chin
    assert points[0, 0] < points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0] < points[16, 0]  # eyes
    assert np.all(np.diff(points[27:31, 1]) > 0)  # down the nose
    assert points[62, 1] < points[66, 1]  # inner lips


def test_the_nose_is_in_the_middle_of_the_face_box() -> None:
    assert face_box(face(), 480, extra_margin=0) == Box(100, 70, 200, 230)
    assert face_box(face(), 480) == Box(100, 70, 200, 240)
    assert face_box(face(), 480, bbox_shift=10, extra_margin=0) == Box(100, 90, 200, 230)


def test_the_face_box_truncates_points_to_integers() -> None:
    assert face_box(face(-3.9, 200.9, 150.9, 230.9), 480, extra_margin=0) == Box(-3, 70, 200, 230)


def test_the_face_box_is_clipped_above_and_below() -> None:
    assert face_box(face(middle=60), 235) == Box(100, 0, 200, 235)


def test_the_shifted_middle_counts_as_lowest_point() -> None:
    assert face_box(face(), 480, bbox_shift=90, extra_margin=0) is None


@pytest.mark.parametrize("points", [face(left=200), face(middle=700, chin=700)])
def test_a_face_without_extent_has_no_box(points: Points) -> None:
    assert face_box(points, 480) is None


def test_a_crop_partly_outside_repeats_the_edge() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[:, :50] = 200
    wide = cv2.copyMakeBorder(frame, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
    for box in (Box(-30, 20, 30, 80), Box(70, 70, 130, 130), Box(-40, -40, 140, 140), Box(-39, 10, -5, 30)):
        shifted = Box(box.x1 + 40, box.y1 + 40, box.x2 + 40, box.y2 + 40)
        assert np.array_equal(crop_face(frame, box), crop_face(wide, shifted))


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        crop_face(np.zeros((9, 9, 3), np.uint8), Box(3, 3, 3, 9))


def boxes(mesh: Points) -> tuple[Box, Box]:
    found = face_box(ibug68(mesh), 512)
    assert found is not None
    return found, crop_box(found)


def at(mask: Image, crop: Box, point: Points) -> int:
    return int(mask[round(point[1]) - crop.y1, round(point[0]) - crop.x1])


def test_the_mesh_mask_covers_lips_and_jaw_but_not_nose_and_eyes(mesh: Points) -> None:
    found, crop = boxes(mesh)
    mask = mesh_mask(mesh, found, crop)
    assert mask.shape == (crop.height, crop.width) and mask.dtype == np.uint8
    assert all(at(mask, crop, mesh[i]) > 250 for i in (13, 14, 17, 61, 291, 200))  # lips, below the lips, corners
    assert all(at(mask, crop, mesh[i]) < 60 for i in (4, 33, 263, 10))  # nose, eyes, forehead
    assert at(mask, crop, mesh[152]) > 100  # chin


def test_the_mesh_mask_is_zero_at_the_edge_of_the_face_box(mesh: Points) -> None:
    found, crop = boxes(mesh)
    mask = mesh_mask(mesh, found, crop)
    x1, x2, y2 = found.x1 - crop.x1, found.x2 - crop.x1, found.y2 - crop.y1
    assert mask[:, x1].max() <= 5 and mask[:, x2 - 1].max() <= 5 and mask[y2 - 1].max() <= 5
    assert mask[:, :x1].max() == 0 and mask[:, x2:].max() == 0 and mask[y2:].max() == 0
    steps = np.abs(np.diff(mask.astype(int), axis=0)).max(), np.abs(np.diff(mask.astype(int), axis=1)).max()
    assert max(steps) < 110  # no hard edge, on a face 95 pixels wide


def test_the_mesh_mask_moves_smoothly_with_the_face(mesh: Points) -> None:
    found, crop = boxes(mesh)
    masks = [mesh_mask(mesh + np.float32(step / 8), found, crop).astype(int) for step in range(9)]
    changes = [np.abs(b - a).mean() for a, b in pairwise(masks)]
    assert min(changes) > 0
    assert max(changes) < 2 * np.mean(changes)
