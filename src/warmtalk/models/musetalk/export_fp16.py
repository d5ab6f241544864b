"""The weights that streaming needs and no others: half precision, safetensors, no VAE encoder, no whisper decoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from warmtalk.core.errors import AlreadyExists
from warmtalk.models.checkpoints import load, weights
from warmtalk.models.checkpoints.load import PART_KEY, Tensors
from warmtalk.models.checkpoints.weights import CheckpointPart


def export(models_dir: Path, out: Path, version: str) -> list[Path]:
    """Writes OUT in the published layout: 1.8 GB for the published weights. Raises as checkpoints.load does."""
    if out.exists() and any(out.iterdir()):
        raise AlreadyExists(f"{out} is not empty", "Take an empty folder")
    part = weights.unet_part(version)
    done = [_write(models_dir, out, part, load.unet(models_dir, version, torch.float16).state_dict())]
    decoder = load.vae(models_dir, torch.float16, encoder=False).state_dict()
    done.append(_write(models_dir, out, weights.VAE, decoder))
    whisper = load.whisper(models_dir, torch.float16)
    done.append(_write(models_dir, out, weights.WHISPER, {f"model.encoder.{n}": t for n, t in whisper.items()}))
    return done


def _write(models_dir: Path, out: Path, part: CheckpointPart, tensors: Tensors) -> Path:
    folder = out / part.folders[0]
    folder.mkdir(parents=True)
    shutil.copyfile(weights.find(models_dir, part).config, folder / part.config)
    path = folder / part.files[0]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {PART_KEY: part.folders[0]})
    return path
