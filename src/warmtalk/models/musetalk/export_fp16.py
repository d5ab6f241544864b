"""Exports the weights of streaming: half precision, safetensors, no VAE encoder, no Whisper decoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from warmtalk.core.errors import AlreadyExists
from warmtalk.models.checkpoints import load, weights
from warmtalk.models.checkpoints.load import PART_KEY
from warmtalk.models.checkpoints.tensor_files import Tensors
from warmtalk.models.checkpoints.weights import CheckpointPart


def export(models_dir: Path, out: Path, version: str) -> list[Path]:
    """Writes `out` in the published layout and returns the files: 1.8 GB for the published weights.

    Raises AlreadyExists when `out` is not empty, and as checkpoints.load does.
    """
    if out.exists() and any(out.iterdir()):
        raise AlreadyExists(f"{out} is not empty", "Name an empty folder")
    unet = load.unet(models_dir, version, torch.float16).state_dict()
    files = [_write(models_dir, out, weights.unet_part(version), unet)]
    decoder = load.vae(models_dir, torch.float16, encoder=False).state_dict()
    files.append(_write(models_dir, out, weights.VAE, decoder))
    encoder = load.whisper(models_dir, torch.float16).state_dict()
    named = {f"model.encoder.{name}": tensor for name, tensor in encoder.items()}
    files.append(_write(models_dir, out, weights.WHISPER, named))
    return files


def _write(models_dir: Path, out: Path, part: CheckpointPart, tensors: Tensors) -> Path:
    folder = out / part.folders[0]
    folder.mkdir(parents=True)
    shutil.copyfile(weights.find(models_dir, part).config, folder / part.config)
    path = folder / part.files[0]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {PART_KEY: part.folders[0]})
    return path
