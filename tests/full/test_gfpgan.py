"""GFPGAN in the published format, with random weights: loaded through spandrel, the same face the same each time."""

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
    held = network.state_dict()
    for name in held:
        if name.endswith("modulated_conv.weight") or "noise" in name:
            held[name] = torch.randn_like(held[name])  # trained ones add noise; these are zero at first
    path = tmp_path_factory.mktemp("gfpgan") / "GFPGANv1.4.pth"
    torch.save({"params_ema": held}, path)
    return path


def test_a_face_comes_back_and_the_same_each_time(weights: Path) -> None:
    restorer = Gfpgan(weights, "cpu")
    face = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    first = restorer(face)
    assert first.shape == face.shape and first.dtype == np.uint8 and first.std() > 1
    assert np.array_equal(restorer(face), first)


def test_what_is_no_gfpgan_is_said(tmp_path: Path) -> None:
    for held in ({"params_ema": {"conv.weight": torch.zeros(3)}}, {}):
        torch.save(held, tmp_path / "a.pth")
        with pytest.raises(Damaged, match="holds another network"):
            Gfpgan(tmp_path / "a.pth", "cpu")
    (tmp_path / "a.pth").write_bytes(b"hello")
    with pytest.raises(Damaged, match="cannot be read as weights"):
        Gfpgan(tmp_path / "a.pth", "cpu")
