"""Latents of MuseTalk for avatar bundles. Imports torch: import this module only where torch is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from warmtalk.config import MuseTalkConfig
from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import write_latents
from warmtalk.models.device import pick_device, pick_dtype
from warmtalk.models.musetalk.latents import LatentEncoder, avatar_latents


class LatentWriter:
    """Writes latents.safetensors of bundles. Loads the image codec with the first bundle and keeps the codec.

    Use from one thread only.
    """

    def __init__(self, models_dir: Path, config: MuseTalkConfig) -> None:
        self._models_dir = models_dir
        self._config = config
        self._encoder: LatentEncoder | None = None

    def __call__(self, bundle: Bundle, on_row: Callable[[int, int], None]) -> None:
        """Encodes all rows of the bundle. Raises NotReady for missing, Damaged for invalid weights."""
        if self._encoder is None:
            device = pick_device(self._config.device)
            self._encoder = LatentEncoder(self._models_dir, device, pick_dtype(self._config.dtype, device))
        write_latents(bundle.path, avatar_latents(bundle, self._encoder, self._config.version, on_row))
