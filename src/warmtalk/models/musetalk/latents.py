"""What MuseTalk knows of a face: the latents of its crop, once with the lower half black and once whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from warmtalk.core import bundle_files
from warmtalk.core.bundle import Bundle
from warmtalk.core.faces import crop_face
from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.checkpoints import load

Latents = npt.NDArray[np.float32]
"""[n, 8, 32, 32]: four channels of the masked crop, then four of the whole one."""


class LatentEncoder:
    """The VAE's encoder on one device. One thread only."""

    def __init__(self, models_dir: Path, device: torch.device, dtype: torch.dtype, *, batch: int = 4) -> None:
        """Raises NotReady and Damaged as warmtalk.models.checkpoints.load does. `batch` faces are two images each."""
        self.vae = load.vae_fingerprint(models_dir)
        self._vae = load.vae(models_dir, dtype, device)
        self._vae.decoder = None
        self._device = device
        self._dtype = dtype
        self.batch = batch

    def encode(self, crops: Sequence[Image]) -> Latents:
        """[256, 256, 3] crops to latents: the mean of the posterior, where the reference draws from it unseeded."""
        parts = [self._means(crops[i : i + self.batch]) for i in range(0, len(crops), self.batch)]
        return np.concatenate([np.zeros((0, 8, 32, 32), np.float32), *parts])

    def posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, 256, 256] from `vae_input` to mean and deviation, [B, 4, 32, 32] float32 each, not scaled."""
        with torch.inference_mode():
            found = self._vae.encode(images.to(self._device, self._dtype)).latent_dist
            return found.mean.float().cpu(), found.std.float().cpu()

    def _means(self, crops: Sequence[Image]) -> Latents:
        mean, _ = self.posterior(torch.cat([vae_input(crops, masked=True), vae_input(crops, masked=False)]))
        latents: Latents = torch.cat((load.VAE_SCALE * mean).chunk(2), 1).numpy()
        return latents


def latents_of(
    avatar: Bundle, encoder: LatentEncoder, version: str, on_row: Callable[[int, int], None] = lambda done, total: None
) -> bundle_files.Latents:
    """Latents of every usable row, zeros elsewhere. `on_row` gets the rows done and all; it may raise to stop."""
    rows = [row for row in range(len(avatar)) if avatar.usable(row)]
    values = np.zeros((len(avatar), 8, 32, 32), np.float16)
    for done in range(0, len(rows), encoder.batch):
        batch = rows[done : done + encoder.batch]
        values[batch] = encoder.encode([crop_face(avatar.frame(row), avatar.paste_box(row)) for row in batch])
        on_row(done + len(batch), len(rows))
    return bundle_files.Latents(values, encoder.vae, version)


def vae_input(crops: Sequence[Image], *, masked: bool) -> torch.Tensor:
    """[256, 256, 3] uint8 BGR to [B, 3, 256, 256] float32 RGB in [-1, 1]; `masked` blackens the lower half."""
    stacked = np.stack(crops)[..., ::-1].transpose(0, 3, 1, 2) / 255.0
    # In C order: from a channels-last picture torch's CPU group norm is off by 1 % of the latents' deviation.
    pixels = torch.from_numpy(stacked.astype(np.float32, order="C"))
    if masked:
        pixels[:, :, FACE_SIZE // 2 :] = 0
    return (pixels - 0.5) / 0.5
