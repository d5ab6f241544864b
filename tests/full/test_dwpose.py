"""The DWPose adapter on a file of the published format whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.full import pose_file
from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import Box, Image
from warmtalk.models.faces.dwpose import DwposeDetector

BLUE, RED = 0, 2


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> DwposeDetector:
    return DwposeDetector(pose_file.write(tmp_path_factory.mktemp("pose") / "dw-ll_ucoco_384.onnx"), "cpu")


def dotted(width: int, height: int, *dots: tuple[int, int], channel: int = RED) -> Image:
    """[height, width, 3] BGR, black, with a soft dot of one colour at each of the places."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    for column, row in dots:
        glow = 255 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 200)
        image[:, :, channel] = np.maximum(image[:, :, channel], glow.astype(np.uint8))
    return image


def test_the_68_points_of_the_face_come_in_ibugs_order(detector: DwposeDetector) -> None:
    (face,) = detector.detect(dotted(480, 640, (260, 300)))
    step = 640 * 1.25 / pose_file.HEIGHT  # pixels of the picture in one of the network
    expected = np.array([260, 300]) + pose_file.layout() * step
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    assert np.abs(face.points - expected).max() < 2.5 * step
    assert np.ptp(face.points - expected, axis=0).max() < 1.01 * step  # no point stands on another's place
    assert face.score == 1.0


def test_a_mirrored_picture_gives_the_mirrored_points(detector: DwposeDetector) -> None:
    image = dotted(480, 640, (200, 300))
    (face,), (mirrored,) = detector.detect(image), detector.detect(image[:, ::-1])
    jaw = np.arange(17)
    assert np.abs(479 - mirrored.points[16 - jaw, 0] - face.points[jaw, 0]).max() < 4


def test_the_network_sees_red_where_red_is(detector: DwposeDetector) -> None:
    assert len(detector.detect(dotted(480, 640, (260, 300), channel=RED))) == 1
    assert detector.detect(dotted(480, 640, (260, 300), channel=BLUE)) == []


def test_a_picture_without_anybody_has_no_face(detector: DwposeDetector) -> None:
    assert detector.detect(np.zeros((360, 640, 3), np.uint8)) == []


def test_two_small_faces_are_looked_at_one_by_one(detector: DwposeDetector) -> None:
    image = dotted(1280, 720, (300, 300), (900, 320))
    hints = [Box(240, 230, 360, 370), Box(840, 250, 960, 390)]
    found = sorted(float(face.points[30, 0]) for face in detector.detect(image, hints))
    assert len(found) == 2 and abs(found[0] - 300) < 8 and abs(found[1] - 900) < 8


def test_what_is_not_this_network_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no network" * 100)
    with pytest.raises(Damaged, match=r"garbage\.onnx cannot be opened.*weights fetch dwpose"):
        DwposeDetector(garbage, "cpu")
    with pytest.raises(Damaged, match="is not DWPose's network"):
        DwposeDetector(pose_file.write(tmp_path / "small.onnx", width=192), "cpu")


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has one")
    with pytest.raises(NotReady, match="onnxruntime has no CUDA"):
        DwposeDetector(tmp_path / "any.onnx", "cuda")
