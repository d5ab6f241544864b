"""Whisper's ear: sound to log-mel, log-mel to the five hidden states of the encoder. Plain torch, no transformers.

    30 s of 16 kHz sound ─ log-mel [80, 3000] ─ two convolutions ─ + positions ─ 4 layers ─► states [1500, 5, 384]

One state every 20 ms. State 0 is the input of the first layer, 1 to 3 the outputs of the layers before the last,
4 the output of the last layer after the final norm, as transformers' `output_hidden_states` gives them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from warmtalk.core.errors import Damaged
from warmtalk.core.types import SPEECH_RATE_HZ, Samples
from warmtalk.models.checkpoints.load import Tensors

SEGMENT_SAMPLES = 30 * SPEECH_RATE_HZ
"""What the encoder hears at once; shorter sound is followed by zeros."""
STEP_SAMPLES = 320
"""Samples of one hidden state: 20 ms."""
STATES = 5
WIDTH = 384
_FFT, _HOP, _BANDS = 400, 160, 80
_RANGE = 8.0
"""Powers of ten below the loudest that are told apart."""
_HEAD_WIDTH = 64


def mel_filters() -> npt.NDArray[np.float32]:
    """[201, 80] triangles from 0 to 8 kHz on Slaney's mel scale, of equal area (Slaney 1998, Auditory Toolbox)."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(0.0), _hz_to_mel(SPEECH_RATE_HZ / 2), _BANDS + 2))
    bins = np.linspace(0, SPEECH_RATE_HZ // 2, _FFT // 2 + 1)
    slopes = edges[None, :] - bins[:, None]
    widths = np.diff(edges)
    triangles = np.maximum(0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


class LogMel:
    """Sound to Whisper's input, bit for bit what transformers' WhisperFeatureExtractor gives (on a CPU).

    `loudest` replaces the loudest power (log10) of the segment where that is lower. The reference takes what it
    finds: the floor of the quiet parts then depends on sound that a stream has not heard yet.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._filters = torch.from_numpy(mel_filters()).to(device)
        self._window = torch.hann_window(_FFT, device=device)

    def __call__(self, samples: Samples, *, loudest: float = -math.inf) -> torch.Tensor:
        """[n <= SEGMENT_SAMPLES] to [80, 3000] float32 on the device."""
        padded = torch.zeros(SEGMENT_SAMPLES, dtype=torch.float32, device=self._device)
        padded[: len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, np.float32)).to(self._device)
        spectrum = torch.stft(padded, _FFT, _HOP, window=self._window, return_complex=True)
        power = spectrum[..., :-1].abs() ** 2
        levels = torch.clamp(self._filters.T @ power, min=1e-10).log10()
        floor = torch.clamp(levels.max(), min=loudest) - _RANGE
        return (torch.maximum(levels, floor) + 4.0) / 4.0


class WhisperEncoder:
    """whisper-tiny's encoder over the tensors of its checkpoint. One thread only."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        """Raises Damaged when the tensors are not those of such an encoder."""
        self._tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self._layers = _layers_of(tensors)
        self.dtype: torch.dtype = tensors["conv1.weight"].dtype

    def __call__(self, mel: torch.Tensor) -> torch.Tensor:
        """[B, 80, 3000] to [B, 1500, 5, 384], in the precision of the weights."""
        t = self._tensors
        with torch.inference_mode():
            x = F.gelu(F.conv1d(mel.to(self.dtype), t["conv1.weight"], t["conv1.bias"], padding=1))
            x = F.gelu(F.conv1d(x, t["conv2.weight"], t["conv2.bias"], stride=2, padding=1))
            x = x.permute(0, 2, 1) + t["embed_positions.weight"]
            states = [x]
            for layer in range(self._layers):
                x = self._layer(f"layers.{layer}.", x)
                states.append(x)
            states[-1] = self._norm("layer_norm", x)
            return torch.stack(states, 2)

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = x + self._attention(f"{name}self_attn.", self._norm(f"{name}self_attn_layer_norm", x))
        inner = F.gelu(self._linear(f"{name}fc1", self._norm(f"{name}final_layer_norm", x)))
        return x + self._linear(f"{name}fc2", inner)

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            self._linear(f"{name}{part}", x).unflatten(2, (-1, _HEAD_WIDTH)).transpose(1, 2)
            for part in ("q_proj", "k_proj", "v_proj")
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self._linear(f"{name}out_proj", mixed.transpose(1, 2).flatten(2))

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias"))

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])


def _layers_of(tensors: Tensors) -> int:
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    conv, positions = tensors.get("conv1.weight"), tensors.get("embed_positions.weight")
    fits = conv is not None and tuple(conv.shape) == (WIDTH, _BANDS, 3)
    if not fits or positions is None or tuple(positions.shape) != (1500, WIDTH) or layers != STATES - 1:
        raise Damaged(
            "the speech encoder in the folder of models is not whisper-tiny",
            "Fetch openai/whisper-tiny, not another size: warmtalk weights fetch",
        )
    return layers


_LINEAR_HZ, _LINEAR_MEL, _LOG_STEP = 1000.0, 15.0, math.log(6.4) / 27.0
"""Slaney's scale is linear up to 1 kHz, then logarithmic."""


def _hz_to_mel(hz: float) -> float:
    if hz < _LINEAR_HZ:
        return 3.0 * hz / 200.0
    return _LINEAR_MEL + math.log(hz / _LINEAR_HZ) * (27.0 / math.log(6.4))


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < _LINEAR_MEL, 200.0 * mel / 3.0, _LINEAR_HZ * np.exp(_LOG_STEP * (mel - _LINEAR_MEL)))
