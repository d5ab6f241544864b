"""Whisper's front end and encoder from transformers, with the log-mel of streamed audio.

    30 s of 16 kHz audio ─ log-mel [80, 3000] ─ encoder ─► hidden states [1500, 5, 384]

One state every 20 ms. State 0 is the input of the first layer, states 1 to 3 are the outputs of the layers before the
last, state 4 is the output of the last layer after the final norm: `output_hidden_states` of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from warmtalk.core.types import SPEECH_RATE_HZ, Samples
from warmtalk.models.checkpoints import load

SEGMENT_SAMPLES = 30 * SPEECH_RATE_HZ
"""Audio of one encoder pass. Zeros follow shorter audio."""
STEP_SAMPLES = 320
"""Samples of one hidden state: 20 ms."""
STATES = 5
WIDTH = 384
MIN_PEAK = 0.5
"""Power (log10) of the loudest mel band in soft speech; usual levels reach 0.7 to 1.6."""
_RANGE = 8.0
"""Powers of ten between the loudest band and the floor."""


class WhisperEncoder:
    """whisper-tiny on one device. One thread only."""

    def __init__(self, models_dir: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the weights. Raises NotReady and Damaged as warmtalk.models.checkpoints.load does."""
        self.device = device
        self._dtype = dtype
        self._network = load.whisper(models_dir, dtype, device)
        self._extractor = load.feature_extractor(models_dir)
        self._stream_log_mel = LogMel(self._extractor, device)

    @property
    def network(self) -> nn.Module:
        """The WhisperEncoder of transformers."""
        return self._network

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """Returns the hidden states [B, 1500, 5, 384] of log-mel [B, 80, 3000], in the precision of the weights."""
        with torch.inference_mode():
            output = self._network(mel.to(self._dtype), output_hidden_states=True)
            return torch.stack(output.hidden_states, 2)

    def log_mel(self, samples: Samples) -> torch.Tensor:
        """Returns the log-mel [80, 3000] float32 of at most 30 s by WhisperFeatureExtractor, on the CPU."""
        extracted = self._extractor(samples, sampling_rate=SPEECH_RATE_HZ, return_tensors="pt")
        mel: torch.Tensor = extracted["input_features"][0]
        return mel

    def stream_log_mel(self, samples: Samples) -> torch.Tensor:
        """Returns the log-mel [80, 3000] float32 of at most 30 s, on the device, with the floor of a stream."""
        return self._stream_log_mel(samples)


class LogMel:
    """Log-mel of a stream: the arithmetic of WhisperFeatureExtractor with another floor, on the encoder's device.

    WhisperFeatureExtractor takes the floor of quiet parts from the loudest band of the segment, which a stream may not
    have received yet. Here the loudest band counts as at least `min_peak` (log10 of the power). In addition,
    WhisperFeatureExtractor pads on the CPU, copies 1.9 MB a segment to a GPU and the result back; here a GPU receives
    the samples alone.
    """

    def __init__(self, extractor: Any, device: torch.device, *, min_peak: float = MIN_PEAK) -> None:
        """Takes window, hop and mel filters from `extractor`, a WhisperFeatureExtractor."""
        self._device = device
        self._min_peak = min_peak
        self._fft: int = extractor.n_fft
        self._hop: int = extractor.hop_length
        self._filters = torch.from_numpy(extractor.mel_filters).to(device, torch.float32)
        self._window = torch.hann_window(self._fft, device=device)

    def __call__(self, samples: Samples) -> torch.Tensor:
        """Returns [80, 3000] float32 on the device for at most SEGMENT_SAMPLES samples."""
        padded = torch.zeros(SEGMENT_SAMPLES, dtype=torch.float32, device=self._device)
        padded[: len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, np.float32)).to(self._device)
        spectrum = torch.stft(padded, self._fft, self._hop, window=self._window, return_complex=True)
        power = (spectrum[..., :-1].abs() ** 2).contiguous()
        levels = torch.clamp(self._filters.T @ power, min=1e-10).log10()
        floor = torch.clamp(levels.max(), min=self._min_peak) - _RANGE
        return (torch.maximum(levels, floor) + 4.0) / 4.0
