"""The networks under test, and results shared by several golden checks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from warmtalk.core import windows
from warmtalk.core.types import Features, Image, Samples
from warmtalk.golden.rounding import RoundingError, rounding_error
from warmtalk.golden.table import Array
from warmtalk.models.musetalk.latents import LatentEncoder, vae_input
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.speech_features import WhisperFeatures, gather_windows
from warmtalk.models.musetalk.whisper import WhisperEncoder

Posterior = tuple[Array, Array]
"""Mean and standard deviation, [2, 4, 32, 32] each: of the masked crop, of the whole crop."""


class Installation:
    """The networks of this installation. A network is loaded on first use."""

    def __init__(self, models_dir: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Loads Whisper and the VAE's encoder. Raises NotReady and Damaged."""
        self._models_dir, self._device, self._dtype = models_dir, device, dtype
        self._whisper = WhisperEncoder(models_dir, device, dtype)
        self.speech = WhisperFeatures(self._whisper)
        self._latents = LatentEncoder(models_dir, device, dtype, batch=1)
        self._networks: dict[str, MuseTalk] = {}
        self._states: tuple[Samples, Features] | None = None
        self._posteriors: dict[bytes, Posterior] = {}

    def networks(self, version: str) -> MuseTalk:
        """Returns UNet and decoder of a version in the form used for rendering: with the timestep folded in."""
        if version not in self._networks:
            self._networks[version] = MuseTalk(self._models_dir, version, self._device, self._dtype)
        return self._networks[version]

    def states(self, audio: Samples) -> Features:
        """Returns the hidden states of `audio`. Keeps the latest result."""
        if self._states is None or self._states[0] is not audio:
            self._states = audio, self.speech.states(audio)
        return self._states[1]

    def features(self, audio: Samples, fps: float) -> Features:
        """Returns the features of `audio` as MuseTalk's scripts compute them, [frames, 50, 384]."""
        return gather_windows(torch.from_numpy(self.states(audio)), windows.reference(len(audio), fps))

    def posterior(self, crop: Image) -> Posterior:
        """Returns the VAE's posterior of a crop, computed once: the runs of a clip share their crops."""
        key = crop.tobytes()
        if key not in self._posteriors:
            inputs = [vae_input([crop], masked=masked) for masked in (True, False)]  # one image at a time
            means, deviations = zip(*map(self._latents.posterior, inputs), strict=True)
            self._posteriors[key] = np.concatenate(means), np.concatenate(deviations)
        return self._posteriors[key]

    @cached_property
    def speech_error(self) -> RoundingError:
        """Rounding error of hidden states and prompts."""
        return rounding_error([self._whisper.network], self._dtype, self._device)

    @cached_property
    def latent_error(self) -> RoundingError:
        """Rounding error of the posterior and of latents."""
        return rounding_error([self._latents.network], self._dtype, self._device)

    def unet_error(self, version: str) -> RoundingError:
        """Returns the rounding error of predicted latents: the inputs of the UNet come from networks too."""
        networks = [self._whisper.network, self._latents.network, self.networks(version).unet]
        return rounding_error(networks, self._dtype, self._device)

    def face_error(self, version: str) -> RoundingError:
        """Returns the rounding error of decoded faces, computed from audio and source frames."""
        rendering = self.networks(version)
        networks = [self._whisper.network, self._latents.network, rendering.unet, rendering.decoder]
        return rounding_error(networks, self._dtype, self._device)
