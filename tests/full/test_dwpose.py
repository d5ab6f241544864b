"""The DWPose adapter with a file of the published format and a known output."""

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
    """Returns [height, width, 3] BGR, black, with a soft dot of one colour at each position."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    for column, row in dots:
        glow = 255 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 200)
        image[:, :, channel] = np.maximum(image[:, :, channel], glow.astype(np.uint8))
    return image


def test_the_68_points_have_the_ibug_order(detector: DwposeDetector) -> None:
    (face,) = detector.detect(dotted(480, 640, (260, 300)))
    step = 640 * 1.25 / pose_file.HEIGHT  # pixels of the image per pixel of the input
    expected = np.array([260, 300]) + pose_file.layout() * step
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    assert np.abs(face.points - expected).max() < 2.5 * step
    assert np.ptp(face.points - expected, axis=0).max() < 1.01 * step  # no two points are swapped
    assert face.score == 1.0


def test_a_mirrored_image_gives_the_mirrored_points(detector: DwposeDetector) -> None:
    image = dotted(480, 640, (200, 300))
    (face,), (mirrored,) = detector.detect(image), detector.detect(image[:, ::-1])
    jaw = np.arange(17)
    assert np.abs(479 - mirrored.points[16 - jaw, 0] - face.points[jaw, 0]).max() < 4


def test_the_network_receives_rgb(detector: DwposeDetector) -> None:
    assert len(detector.detect(dotted(480, 640, (260, 300), channel=RED))) == 1
    assert detector.detect(dotted(480, 640, (260, 300), channel=BLUE)) == []


def test_an_image_without_a_face_has_no_detections(detector: DwposeDetector) -> None:
    assert detector.detect(np.zeros((360, 640, 3), np.uint8)) == []


def test_small_faces_get_a_window_each(detector: DwposeDetector) -> None:
    image = dotted(1280, 720, (300, 300), (900, 320))
    hints = [Box(240, 230, 360, 370), Box(840, 250, 960, 390)]
    found = sorted(float(face.points[30, 0]) for face in detector.detect(image, hints))
    assert len(found) == 2 and abs(found[0] - 300) < 8 and abs(found[1] - 900) < 8


def test_files_of_another_network_are_rejected(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no network" * 100)
    with pytest.raises(Damaged, match=r"garbage\.onnx cannot be opened.*weights fetch dwpose"):
        DwposeDetector(garbage, "cpu")
    with pytest.raises(Damaged, match="is not DWPose's network"):
        DwposeDetector(pose_file.write(tmp_path / "small.onnx", width=192), "cpu")


def test_a_missing_gpu_is_reported(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU")
    with pytest.raises(NotReady, match="onnxruntime has no CUDA"):
        DwposeDetector(tmp_path / "any.onnx", "cuda")
