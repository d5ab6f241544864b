"""MuseTalk's view of a face: latents of the crop with a black lower half, and of the whole crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from warmtalk.core import bundle_files
from warmtalk.core.bundle import Bundle
from warmtalk.core.faces import crop_face
from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.checkpoints import load

Latents = npt.NDArray[np.float32]
"""[n, 8, 32, 32]: four channels of the masked crop, then four of the whole crop."""


class LatentEncoder:
    """The VAE's encoder on one device. One thread only."""

    def __init__(self, models_dir: Path, device: torch.device, dtype: torch.dtype, *, batch: int = 4) -> None:
        """Loads the weights; `batch` counts faces of two images each.

        Raises NotReady and Damaged as warmtalk.models.checkpoints.load does.
        """
        self.vae = load.vae_fingerprint(models_dir)
        self._network = load.vae(models_dir, dtype, device)
        self._network.decoder = None
        self._device = device
        self._dtype = dtype
        self.batch = batch

    @property
    def network(self) -> nn.Module:
        """The VAE without decoder."""
        return self._network

    def encode(self, crops: Sequence[Image]) -> Latents:
        """Returns the latents of [256, 256, 3] crops: the posterior's mean; the reference samples without a seed."""
        parts = [self._means(crops[i : i + self.batch]) for i in range(0, len(crops), self.batch)]
        return np.concatenate([np.zeros((0, 8, 32, 32), np.float32), *parts])

    def posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and standard deviation, [B, 4, 32, 32] float32 each, not scaled, of images from `vae_input`."""
        with torch.inference_mode():
            distribution = self._network.encode(images.to(self._device, self._dtype)).latent_dist
            return distribution.mean.float().cpu(), distribution.std.float().cpu()

    def _means(self, crops: Sequence[Image]) -> Latents:
        mean, _ = self.posterior(torch.cat([vae_input(crops, masked=True), vae_input(crops, masked=False)]))
        latents: Latents = torch.cat((load.VAE_SCALE * mean).chunk(2), 1).numpy()
        return latents


def avatar_latents(
    avatar: Bundle, encoder: LatentEncoder, version: str, on_row: Callable[[int, int], None] = lambda done, total: None
) -> bundle_files.Latents:
    """Returns the latents of every usable row, zeros for other rows.

    `on_row` receives the number of finished rows and of all rows; an exception from `on_row` stops the work.
    """
    rows = [row for row in range(len(avatar)) if avatar.usable(row)]
    values = np.zeros((len(avatar), 8, 32, 32), np.float16)
    for done in range(0, len(rows), encoder.batch):
        batch = rows[done : done + encoder.batch]
        values[batch] = encoder.encode([crop_face(avatar.frame(row), avatar.paste_box(row)) for row in batch])
        on_row(done + len(batch), len(rows))
    return bundle_files.Latents(values, encoder.vae, version)


def vae_input(crops: Sequence[Image], *, masked: bool) -> torch.Tensor:
    """Returns [B, 3, 256, 256] float32 RGB in [-1, 1] of [256, 256, 3] uint8 BGR; `masked` blackens the lower half."""
    stacked = np.stack(crops)[..., ::-1].transpose(0, 3, 1, 2) / 255.0
    # In C order: for a channels-last image torch's CPU group norm is off by 1 % of the latents' deviation.
    pixels = torch.from_numpy(stacked.astype(np.float32, order="C"))
    if masked:
        pixels[:, :, FACE_SIZE // 2 :] = 0
    return (pixels - 0.5) / 0.5
