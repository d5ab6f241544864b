"""The face-alignment adapter with files of the published formats: S3FD detects blue areas, FAN has random weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

from warmtalk.core.errors import Damaged
from warmtalk.core.types import Image
from warmtalk.models.faces.alignment import AlignmentDetector

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's tracing, numba's compiler


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("face-alignment")
    torch.save(_blue_area_detector(), folder / "s3fd-619a316812.pth")
    torch.manual_seed(1)
    net = FAN(4).eval()
    torch.save(net.state_dict(), folder / "2DFAN4-11f355bf06.pth.tar")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.rand(1, 3, 256, 256), check_trace=False).save(folder / "2DFAN4-cd938726ad.zip")
    return folder


@pytest.fixture(scope="module")
def detector(files: Path) -> Iterator[AlignmentDetector]:
    yield AlignmentDetector(files / "s3fd-619a316812.pth", files / "2DFAN4-11f355bf06.pth.tar", "cpu")


def _blue_area_detector() -> dict[str, torch.Tensor]:
    """Returns S3FD's tensors: the first channel passes through, and bright cells of 128 pixels are faces."""
    tensors = {name: torch.zeros_like(tensor) for name, tensor in s3fd().state_dict().items()}
    for name, tensor in tensors.items():
        if name.endswith(".weight") and tensor.dim() == 4 and "mbox" not in name:
            tensor[0, 0, tensor.shape[2] // 2, tensor.shape[3] // 2] = 1
        elif name.endswith("mbox_conf.bias"):
            tensor[0] = 9.0  # background
    tensors["conv7_2_mbox_conf.weight"][1, 0, 1, 1] = 0.2
    return tensors


def bright(side: int = 256, channel: int = 0) -> Image:
    """Returns [side, side, 3] BGR, black except for the last quarter."""
    image = np.zeros((side, side, 3), np.uint8)
    image[side // 2 :, side // 2 :, channel] = 255
    return image


def test_a_face_is_found_and_gets_68_points(files: Path, detector: AlignmentDetector) -> None:
    (face,) = detector.detect(bright())
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32 and 0.5 < face.score <= 1
    # S3FD returns a square of 512 pixels around (320, 320), which defines the input of 2DFAN4.
    middle, reach = np.array([320, 320 - 0.12 * 512]), 100 * (512 + 512) / 195
    assert (np.abs(face.points - middle) < reach + 10).all() and np.ptp(face.points, axis=0).min() > 100
    traced = AlignmentDetector(files / "s3fd-619a316812.pth", files / "2DFAN4-cd938726ad.zip", "cpu")
    assert np.allclose(traced.detect(bright())[0].points, face.points, atol=1e-3)  # the other published form


def test_the_colour_order_is_that_of_the_training(detector: AlignmentDetector) -> None:
    assert detector.detect(bright(channel=2)) == []


def test_large_images_are_searched_small_and_measured_large(
    detector: AlignmentDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmtalk.models.faces.alignment.SEARCH_SIDE", 256)
    (face,) = detector.detect(bright(768))
    middle, reach = 3 * np.array([320, 320 - 0.12 * 512]), 3 * 100 * (512 + 512) / 195
    assert (np.abs(face.points - middle) < reach + 30).all() and np.ptp(face.points, axis=0).min() > 300


@pytest.mark.parametrize("broken", ["s3fd-619a316812.pth", "2DFAN4-cd938726ad.zip"])
def test_broken_files_are_named(files: Path, tmp_path: Path, broken: str) -> None:
    names = ("s3fd-619a316812.pth", "2DFAN4-cd938726ad.zip")
    for name in names:
        content = (files / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name == broken else content)
    with pytest.raises(Damaged, match=r"cannot be opened.*weights fetch face-alignment"):
        AlignmentDetector(tmp_path / names[0], tmp_path / names[1], "cpu")


def test_a_file_of_another_network_is_rejected(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "s3fd-619a316812.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(Damaged):
        AlignmentDetector(other, files / "2DFAN4-11f355bf06.pth.tar", "cpu")
