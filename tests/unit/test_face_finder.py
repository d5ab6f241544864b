"""The embedded face finder on a real photograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import footage
from warmtalk.core.errors import NotReady
from warmtalk.core.types import Box, Image
from warmtalk.models.faces import network_files
from warmtalk.models.faces.face_finder import FaceFinder


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def portrait() -> Image:
    return footage.portrait()


def test_finds_the_one_face_with_its_parts_in_place(finder: FaceFinder, portrait: Image) -> None:
    (found,) = finder.find(portrait)
    points = found.landmarks
    assert points.shape == (468, 2) and points.dtype == np.float32
    assert found.score > 0.8 and found.mesh_score > 0.9
    assert np.abs(points[1] - (223, 140)).max() < 12  # nose tip
    assert np.abs((points[13] + points[14]) / 2 - (222, 146)).max() < 8  # mouth
    assert points[152, 1] > points[14, 1] > points[1, 1] > points[159, 1]  # chin, mouth, nose, eye
    assert found.box.x1 < points[1, 0] < found.box.x2


def test_noise_has_no_face(finder: FaceFinder) -> None:
    noise = np.random.default_rng(0).normal(128, 30, (480, 640, 1)).clip(0, 255).astype(np.uint8)
    assert finder.find(np.repeat(noise, 3, 2)) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 700, 3), (700, 2, 3)])
def test_odd_pictures_have_no_face(finder: FaceFinder, shape: tuple[int, int, int]) -> None:
    assert finder.find(np.full(shape, 90, np.uint8)) == []


@pytest.mark.parametrize("height", [64, 400, 900])
def test_faces_of_many_sizes_in_a_1080p_frame(finder: FaceFinder, portrait: Image, height: int) -> None:
    scale = height / 110  # the face of the portrait is 110 pixels high
    head = cv2.resize(portrait[30:260, 120:340], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:1080]
    frame = np.full((1080, 1920, 3), 120, np.uint8)
    frame[-head.shape[0] :, -head.shape[1] :] = head
    (found,) = finder.find(frame)
    nose = (np.array([223, 140]) - (120, 30)) * scale + (1920 - head.shape[1], 1080 - head.shape[0])
    assert np.abs(found.landmarks[1] - nose).max() < 0.15 * height


def test_near_says_which_of_two_faces_comes_first(finder: FaceFinder, portrait: Image) -> None:
    pair = np.concatenate([portrait[:300, 80:380], portrait[:300, 80:380]], 1)
    for x in (90, 390):
        first, second = finder.find(pair, near=Box(x, 60, x + 110, 200))
        assert abs(first.landmarks[1, 0] - (x + 53)) < 15 < abs(second.landmarks[1, 0] - (x + 53))


def test_same_picture_gives_the_same_points(finder: FaceFinder, portrait: Image) -> None:
    assert np.array_equal(finder.find(portrait)[0].landmarks, finder.find(portrait)[0].landmarks)


def test_missing_networks_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network_files, "NETWORKS_DIR", tmp_path)
    with pytest.raises(NotReady, match="pip install --no-deps --force-reinstall warmtalk"):
        FaceFinder()
