"""GFPGAN in the published format with random weights: loading by spandrel and determinism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from warmtalk.core.errors import Damaged
from warmtalk.models.faces.gfpgan import Gfpgan, _spandrel


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _spandrel()
    from spandrel.architectures.GFPGAN import GFPGAN

    torch.manual_seed(0)
    network = GFPGAN(
        out_size=512,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    )
    tensors = network.state_dict()
    for name in tensors:
        if name.endswith("modulated_conv.weight") or "noise" in name:
            tensors[name] = torch.randn_like(tensors[name])  # zero without training, and then without effect
    path = tmp_path_factory.mktemp("gfpgan") / "GFPGANv1.4.pth"
    torch.save({"params_ema": tensors}, path)
    return path


def test_restoration_is_deterministic(weights: Path) -> None:
    restorer = Gfpgan(weights, "cpu")
    face = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    first = restorer(face)
    assert first.shape == face.shape and first.dtype == np.uint8 and first.std() > 1
    assert np.array_equal(restorer(face), first)


def test_files_without_gfpgan_are_rejected(tmp_path: Path) -> None:
    for content in ({"params_ema": {"conv.weight": torch.zeros(3)}}, {}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(Damaged, match="holds another network"):
            Gfpgan(tmp_path / "a.pth", "cpu")
    (tmp_path / "a.pth").write_bytes(b"hello")
    with pytest.raises(Damaged, match="cannot be read as weights"):
        Gfpgan(tmp_path / "a.pth", "cpu")
