"""The face-parsing network against a second implementation as modules, and masks against the reference's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.torch.conftest import GOLDEN
from tests.torch.face_parsing_net import BiSeNet as Modules
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import Damaged
from warmtalk.core.types import Mask
from warmtalk.models.faces.bisenet import BiSeNet, BisenetParser

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def modules() -> Modules:
    torch.manual_seed(1)
    net = Modules().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.normal_(module.bias, std=0.3)
    return net


@pytest.fixture(scope="module")
def weights(modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in the format of the published file, which is older than torch's archives."""
    path = tmp_path_factory.mktemp("face-parse-bisent") / "79999_iter.pth"
    torch.save(modules.state_dict(), path, _use_new_zipfile_serialization=False)
    return path


def test_the_network_is_the_published_one(modules: Modules, weights: Path) -> None:
    assert sum(tensor.numel() for tensor in modules.parameters()) == 13_300_416
    image = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        expected, found = modules(image), BiSeNet(weights, CPU)(image)
    assert found.shape == (1, 19, 96, 160)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_copy_in_the_newer_format_without_counters_is_read(modules: Modules, tmp_path: Path) -> None:
    path = tmp_path / "79999_iter.pth"
    torch.save({name: one for name, one in modules.state_dict().items() if "num_batches" not in name}, path)
    BiSeNet(path, CPU)


def test_labels_are_one_of_19_for_each_pixel(weights: Path) -> None:
    labels = BisenetParser(weights, "cpu").labels(np.zeros((1, 3, 512, 512), np.float32))
    assert labels.shape == (512, 512) and labels.dtype == np.uint8 and labels.max() < 19


@pytest.mark.parametrize("damage", ["cut", "missing", "shape", "other"])
def test_files_of_other_networks_are_refused(modules: Modules, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "79999_iter.pth"
    tensors = dict(modules.state_dict())
    if damage == "missing":
        del tensors["ffm.convblk.bn.running_mean"]
    if damage == "shape":
        tensors["conv_out.conv_out.weight"] = torch.zeros(11, 256, 1, 1)
    if damage == "other":
        tensors = {"conv1.weight": torch.zeros(64, 3, 7, 7)}  # as resnet18-5c106cde.pth begins
    torch.save(tensors, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(Damaged, match=r"79999_iter\.pth"):
        BisenetParser(path, "cpu")


class ScriptedParser(BisenetParser):
    """The parser behind a network that returns the reference's label map."""

    def labels(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Mask:
        assert pixels.shape == (1, 3, 512, 512)
        return np.asarray(np.load(GOLDEN / "parsing.npz")["label_map"], np.uint8)


def test_masks_are_the_reference_programs_to_the_bit(weights: Path, avatars: Path) -> None:
    bundle = Bundle(avatars / "synth")
    parser = ScriptedParser(weights, "cpu")
    rows = [row for row in range(len(bundle)) if bundle.usable(row)]
    assert len(rows) >= 4
    for row in rows:  # imported from the reference's own avatar folder
        assert np.array_equal(parser.mask(bundle, row), bundle.mask(row))
    wide = ScriptedParser(weights, "cpu", "neck").mask(bundle, rows[0])
    assert not np.array_equal(wide, bundle.mask(rows[0]))
