"""python -m benchmarks.full_size OUT [--published]: random weights of the published size, for benchmarks.

Writes half precision in the lean layout (1.8 GB). With --published writes the layout of the hub: single precision, with
unet.pth of torch (3.9 GB). Speed does not depend on the values; the faces are noise.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

from warmtalk.models.checkpoints import weights
from warmtalk.models.checkpoints.weights import CheckpointPart

UNET = {
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 384,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "in_channels": 8,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
_WIDTH, _INNER = 384, 1536
Shapes = dict[str, tuple[int, ...]]


def build(out: Path, *, published: bool = False) -> None:
    """Writes the weights of all parts to `out`."""
    for part, config, shapes in (
        (weights.UNET_V15, UNET, _shapes(UNet2DConditionModel, UNET)),
        (weights.VAE, VAE, _shapes(AutoencoderKL, VAE)),
        (weights.WHISPER, {}, whisper_shapes()),
    ):
        _write(out, part, config, shapes, published=published)


def whisper_shapes() -> Shapes:
    """Returns the shapes of the encoder of whisper-tiny."""
    shapes: Shapes = {
        "conv1.weight": (_WIDTH, 80, 3),
        "conv2.weight": (_WIDTH, _WIDTH, 3),
        "embed_positions.weight": (1500, _WIDTH),
        "layer_norm.weight": (_WIDTH,),
    }
    for layer in range(4):
        parts = {f"self_attn.{part}_proj": (_WIDTH, _WIDTH) for part in ("q", "k", "v", "out")}
        parts |= {"fc1": (_INNER, _WIDTH), "fc2": (_WIDTH, _INNER)}
        shapes |= {f"layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
        shapes |= {f"layers.{layer}.{name}.weight": (_WIDTH,) for name in ("self_attn_layer_norm", "final_layer_norm")}
    biases = {
        name.replace("weight", "bias"): (shape[0],)
        for name, shape in shapes.items()
        if "embed" not in name and "k_proj" not in name
    }
    return {f"model.encoder.{name}": shape for name, shape in (shapes | biases).items()}


def _shapes(kind: Any, config: dict[str, Any]) -> Shapes:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(**config).state_dict().items()}


def _write(out: Path, part: CheckpointPart, config: dict[str, Any], shapes: Shapes, *, published: bool) -> None:
    folder = out / part.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / part.config).write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    tensors = {name: _random_tensor(name, shape, generator) for name, shape in shapes.items()}
    if not published:
        save_file(tensors, folder / part.files[0])
    elif part.fetched.endswith(".safetensors"):
        save_file({name: tensor.float() for name, tensor in tensors.items()}, folder / part.fetched)
    else:
        torch.save({name: tensor.float() for name, tensor in tensors.items()}, folder / part.fetched)


def _random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.float16)
    return (torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))).half()


if __name__ == "__main__":
    build(Path(sys.argv[1]), published="--published" in sys.argv)
