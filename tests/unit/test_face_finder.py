"""The embedded face finder on a real photo: whole faces, faces at the edge, and images without a face."""

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
def test_extreme_shapes_have_no_face(finder: FaceFinder, shape: tuple[int, int, int]) -> None:
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


WINDOW_WIDTH, WINDOW_HEIGHT = 192, 160
FACE_BOX = Box(174, 69, 280, 176)


def window_at_edge(portrait: Image, edge: str, cut: float) -> tuple[Image, tuple[int, int]]:
    """Returns a window whose edge cuts off this share of the face, and the window's position in the portrait."""
    x, y = 115, 40
    if edge == "left":
        x = round(FACE_BOX.x1 + cut * FACE_BOX.width)
    elif edge == "right":
        x = round(FACE_BOX.x2 - cut * FACE_BOX.width) - WINDOW_WIDTH
    elif edge == "top":
        y = round(FACE_BOX.y1 + cut * FACE_BOX.height)
    return np.ascontiguousarray(portrait[y : y + WINDOW_HEIGHT, x : x + WINDOW_WIDTH]), (x, y)


def encoded(image: Image, seed: int) -> Image:
    """Returns the image with the noise of a camera and of a JPEG encoder, different for each seed."""
    random = np.random.default_rng(seed)
    noisy = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(35, 95))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("edge", ["left", "right", "top"])
@pytest.mark.parametrize("cut", [0.2, 0.3, 0.4])
def test_a_face_at_the_edge_does_not_depend_on_the_encoder(
    finder: FaceFinder, portrait: Image, edge: str, cut: float
) -> None:
    """The detector's score alone is below 0.5 for some of these images and above for others."""
    image, position = window_at_edge(portrait, edge, cut)
    truth = finder.find(portrait)[0].landmarks - np.array(position, np.float32)
    inside = ((truth >= 0) & (truth < (WINDOW_WIDTH, WINDOW_HEIGHT))).all(1)
    for seed in range(6):
        (found,) = finder.find(encoded(image, seed))
        error = np.linalg.norm(found.landmarks - truth, axis=1)[inside].mean()
        assert error < 0.06 * np.ptp(truth[:, 0])


def test_a_face_that_leaves_the_frame_is_followed(finder: FaceFinder, portrait: Image) -> None:
    """The landmarks of the previous frame find a face below the detector's threshold."""
    lost = np.ascontiguousarray(portrait[128:288, 115:307])
    assert finder.find(lost) == []
    truth = finder.find(portrait)[0].landmarks - np.array([115, 128], np.float32)
    previous = truth + np.array([0, 3], np.float32)
    (found,) = finder.find(lost, previous=[previous])
    assert np.linalg.norm(found.landmarks - truth, axis=1).mean() < 0.08 * np.ptp(truth[:, 0])
    assert finder.find(np.full_like(lost, 110), previous=[previous]) == []
    assert finder.find(np.ascontiguousarray(portrait[300:460, 115:307]), previous=[previous]) == []


def test_an_upside_down_head_gets_no_upright_mesh(finder: FaceFinder, portrait: Image) -> None:
    """On such a head the mesh network is confident but wrong: the detector's key points disagree."""
    for image in (portrait[40:200, 115:307], portrait[20:240, 90:350]):
        for face in finder.find(np.ascontiguousarray(image[::-1, ::-1])):
            eye, mouth = face.landmarks[159], face.landmarks[13]
            assert eye[1] > mouth[1]


def test_near_decides_which_of_two_faces_comes_first(finder: FaceFinder, portrait: Image) -> None:
    pair = np.concatenate([portrait[:300, 80:380], portrait[:300, 80:380]], 1)
    for x in (90, 390):
        first, second = finder.find(pair, near=Box(x, 60, x + 110, 200))
        assert abs(first.landmarks[1, 0] - (x + 53)) < 15 < abs(second.landmarks[1, 0] - (x + 53))


def test_the_same_image_gives_the_same_points(finder: FaceFinder, portrait: Image) -> None:
    assert np.array_equal(finder.find(portrait)[0].landmarks, finder.find(portrait)[0].landmarks)


def test_missing_networks_are_reported_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network_files, "NETWORKS_DIR", tmp_path)
    with pytest.raises(NotReady, match="pip install --no-deps --force-reinstall warmtalk"):
        FaceFinder()
