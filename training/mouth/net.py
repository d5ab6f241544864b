"""Mouth network: residual causal convolutions over loudness-normalised features. models/mouth/net.py runs the same in
numpy."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from warmtalk.models.mouth.audio_features import FEATURES, NormalizedFeatures

DILATIONS = (1, 1, 2, 4, 4)
"""Dilations of the blocks. Steps of 20 ms."""
KERNEL = 3
SPAN = (KERNEL - 1) * sum(DILATIONS)
"""Receptive field into the past. Steps; silence precedes a clip."""
CHANNELS = 96
OUTPUTS = 4
"""Opening, width and protrusion in the units of `SCALE`, and the logit of press."""
SCALE = (0.085, 0.06, 0.3)
AHEAD_HOPS = 10
"""Receptive field into the future, in rows of 10 ms. Together with the settling of the loudness: LOOKAHEAD."""


class MouthNet(nn.Module):  # type: ignore[misc]  # torch is not in every environment
    """Maps [batch, FEATURES, steps] at 50 Hz to [batch, OUTPUTS, steps]. Step s gives the mouth AHEAD_HOPS earlier."""

    def __init__(self, channels: int = CHANNELS, dropout: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.first = nn.Conv1d(FEATURES, channels, 1)
        self.blocks = nn.ModuleList(nn.Conv1d(channels, channels, KERNEL, dilation=d) for d in DILATIONS)
        self.last = nn.Conv1d(channels, OUTPUTS, 1)
        self.drop = nn.Dropout1d(dropout)

    centre: Tensor
    spread: Tensor

    def fit_range(self, features: Tensor) -> None:
        """Sets centre and spread of every feature from [rows, FEATURES]."""
        self.centre.copy_(features.mean(0))
        self.spread.copy_(features.std(0))

    def forward(self, features: Tensor) -> Tensor:
        quiet = torch.from_numpy(NormalizedFeatures.SILENCE)[None, :, None].expand(len(features), -1, SPAN)
        rows = torch.cat([quiet, features], dim=2)
        x = torch.relu(self.first((rows - self.centre[:, None]) / self.spread[:, None]))
        for block, dilation in zip(self.blocks, DILATIONS, strict=True):
            x = x[..., (KERNEL - 1) * dilation :] + torch.relu(block(self.drop(x)))
        return cast(Tensor, self.last(x))
