"""A tiny checkpoint of random weights: the real architecture, key names and folder layout, the same bits every time.

    python -m tests.golden.tiny_checkpoint OUT        writes OUT/musetalkV15, OUT/musetalk, OUT/sd-vae ...

The golden vectors of tests/golden/data were made with this checkpoint. Every weight is a function of (seed, tag, name)
alone, independent of library versions. Needs torch and diffusers.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

SEED = 20240817
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [32, 64, 64, 64],
    "center_input_sample": False,
    "cross_attention_dim": 384,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 8,
    "out_channels": 4,
    "sample_size": 32,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE = {  # like the published VAE without scaling_factor
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [16, 32, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
WHISPER = {
    "model_type": "whisper",
    "d_model": 384,
    "num_mel_bins": 80,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 320,
    "max_source_positions": 1500,
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
Tensors = dict[str, torch.Tensor]


def build(folder: Path) -> Path:
    """Writes the published layout into `folder` and returns `folder`."""
    for tag, path in (("unet_v15", "musetalkV15/unet.pth"), ("unet_v1", "musetalk/pytorch_model.bin")):
        _write(folder / path, _half(_unet(tag)))
        _write_json(folder / path, "musetalk.json", UNET)
    vae = _vae()
    _write(folder / "sd-vae/diffusion_pytorch_model.bin", {_old_name(name): value for name, value in vae.items()})
    _write_json(folder / "sd-vae/x", "config.json", VAE)
    _write(folder / "whisper/pytorch_model.bin", _half(_whisper()))
    _write_json(folder / "whisper/x", "config.json", WHISPER)
    return folder


def write_modern_vae(folder: Path) -> None:
    """Writes the same VAE with the current names, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_vae(), folder / "diffusion_pytorch_model.safetensors")
    _write_json(folder / "x", "config.json", VAE)


def _unet(tag: str) -> Tensors:
    shapes = {k: tuple(v.shape) for k, v in UNet2DConditionModel(**_plain(UNET)).state_dict().items()}
    # Cross-attention is amplified, so that the audio has a visible effect on the output.
    return _fill(shapes, tag, [("attn2.to_v", 2.0), ("attn2.to_out", 2.0)])


def _vae() -> Tensors:
    shapes = {k: tuple(v.shape) for k, v in AutoencoderKL(**_plain(VAE)).state_dict().items()}
    weights = _fill(shapes, "vae")
    weights["quant_conv.bias"][4:] = -5.0
    weights["quant_conv.weight"][4:] *= 0.25
    for name, gain in (("quant_conv.weight", 1.0), ("decoder.conv_out.weight", 0.5)):
        weights[name] = (weights[name] * gain).half().float()
    return weights


def _whisper() -> Tensors:
    weights = _fill(_whisper_shapes(), "whisper", [("self_attn.out_proj", 0.7), ("fc2", 0.7)])
    weights["model.encoder.embed_positions.weight"] = _sinusoids(1500, 384)
    return weights


def _whisper_shapes() -> dict[str, tuple[int, ...]]:
    width, inner = 384, 320
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (width, 80, 3),
        "conv1.bias": (width,),
        "conv2.weight": (width, width, 3),
        "conv2.bias": (width,),
        "embed_positions.weight": (1500, width),
        "layer_norm.weight": (width,),
        "layer_norm.bias": (width,),
    }
    for layer in range(4):
        name = f"layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{name}self_attn.{part}.weight"] = (width, width)
            if part != "k_proj":
                shapes[f"{name}self_attn.{part}.bias"] = (width,)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{name}{norm}.weight": (width,), f"{name}{norm}.bias": (width,)}
        shapes |= {f"{name}fc1.weight": (inner, width), f"{name}fc1.bias": (inner,)}
        shapes |= {f"{name}fc2.weight": (width, inner), f"{name}fc2.bias": (width,)}
    encoder = {f"model.encoder.{name}": shape for name, shape in shapes.items()}
    return encoder | {"model.decoder.layer_norm.weight": (width,)}  # a reader must skip the decoder


def _fill(shapes: Mapping[str, tuple[int, ...]], tag: str, gains: Iterable[tuple[str, float]] = ()) -> Tensors:
    gain = {name: next((g for part, g in gains if part in name), 1.0) for name in shapes}
    return {name: _random_tensor(tag, name, shape, gain[name]) for name, shape in shapes.items()}


def _random_tensor(tag: str, name: str, shape: tuple[int, ...], gain: float) -> torch.Tensor:
    """Returns values that float16 represents exactly."""
    digest = hashlib.sha256(f"{SEED}|{tag}|{name}".encode()).digest()
    values = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little"))).standard_normal(shape)
    if len(shape) > 1:
        values = gain * values / math.sqrt(math.prod(shape[1:]))
    elif "norm" in name and name.endswith("weight"):
        values = 1.0 + 0.1 * values
    else:
        values = 0.05 * values
    return torch.from_numpy(values.astype(np.float32)).half().float()


def _sinusoids(length: int, channels: int) -> torch.Tensor:
    step = math.log(10000) / (channels // 2 - 1)
    rates = np.exp(-step * np.arange(channels // 2, dtype=np.float32))
    angles = np.arange(length, dtype=np.float32)[:, None] * rates[None]
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], 1)).half().float()


def _old_name(name: str) -> str:
    if ".attentions.0." in name:
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _half(weights: Tensors) -> Tensors:
    return {name: value.half() for name, value in weights.items()}


def _write(path: Path, weights: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)


def _write_json(beside: Path, name: str, value: object) -> None:
    beside.with_name(name).write_text(json.dumps(value, indent=2))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
