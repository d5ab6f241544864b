"""Tolerances of the golden checks, derived from floating-point arithmetic and not measured on one processor.

Two correct machines differ because their kernels add in another order. The model (Higham and Mary 2019, "A New Approach
to Probabilistic Rounding Error Analysis", SIAM Journal on Scientific Computing 41): rounding errors are independent,
have mean zero and are at most the unit roundoff u, which is 2^-24 for fp32.

1. A sum of n products of random signs has partial sums that grow as sqrt(n). Its error, relative to the sum, has at
   most the standard deviation u * sqrt(n / 2); the difference of two machines has u * sqrt(n).
2. Errors of different layers are independent, and norms keep the magnitude of values; squares add over the depth of a
   network: u * sqrt(N), where N is the sum of n over all layers and n is the fan-in of a convolution or of a
   matrix. The averages in attention and norms are not counted; the largest value in step 4 leaves room.
3. In half precision each convolution, matrix and norm rounds its output to u = 2^-11 (fp16) or 2^-8 (bf16), and
   products are added in fp32: u * sqrt(layers) in addition.
4. No value may differ by more than SIGMAS standard deviations, times the largest value of the recorded array: errors
   are largest where values are.

Networks in sequence count as one network with all layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from warmtalk.golden.table import Array

SIGMAS = 5.0
"""A normal deviate exceeds five standard deviations once in 1.7 million values."""
UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
_CUDA_GAIN = 10.0
"""cuDNN may compute 3 x 3 convolutions by Winograd's transform, with up to ten times the errors of a sum."""
_FFT_SIZE = 400
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, slots=True)
class RoundingError:
    """Standard deviation of the output of networks between two machines, relative to the largest output."""

    deviation: float

    @property
    def limit(self) -> float:
        """Largest difference allowed, relative to the largest value."""
        return SIGMAS * self.deviation

    @property
    def pixel_deviation(self) -> float:
        """`deviation` of decoded faces in steps of uint8; values in [-1, 1] become 0 to 255."""
        return 127.5 * self.deviation

    @property
    def pixel_limit(self) -> int:
        """Largest difference of a decoded pixel: a value next to the boundary of two steps may take either."""
        return max(1, math.ceil(SIGMAS * self.pixel_deviation))

    @property
    def pixel_share(self) -> float:
        """Largest share of differing pixels: the boundaries of steps lie 1 apart, so the probability of crossing a
        boundary equals the size of the error."""
        return min(1.0, self.pixel_deviation)


def rounding_error(networks: Iterable[nn.Module], dtype: torch.dtype, device: torch.device) -> RoundingError:
    """Returns the rounding error of `networks`, run in this order in `dtype`, against an fp32 machine."""
    layers = [module for network in networks for module in network.modules() if isinstance(module, _LAYERS)]
    variance = UNIT_ROUNDOFF[torch.float32] ** 2 * sum(map(_fan_in, layers))
    if dtype is not torch.float32:
        variance += UNIT_ROUNDOFF[dtype] ** 2 * len(layers)
    return RoundingError(math.sqrt(variance) * (_CUDA_GAIN if device.type == "cuda" else 1.0))


def log_mel_limits(mel: Array) -> Array:
    """Returns the largest difference allowed for each value of log-mel [..., bands, frames], (log10(power) + 4) / 4.

    The error of a transform of n values has the standard deviation u * sqrt(log2 n), relative to the loudest band of
    the frame (Schatzman 1996, "Accuracy of the Discrete Fourier Transform and the Fast Fourier Transform"). In a band
    that is 10^-d as strong, the same error is 10^(d/2) times as large, relative to the amplitude of the band. Logarithm
    and offset round twice, values of up to 8 on two machines: 2 * 2 * 8 u, divided by 4.
    """
    unit = UNIT_ROUNDOFF[torch.float32]
    decades = 4.0 * (mel.max(axis=-2, keepdims=True) - mel)
    amplitude = unit * math.sqrt(2 * math.log2(_FFT_SIZE)) * 10.0 ** (decades / 2)
    limits: Array = np.asarray(SIGMAS * 2 * amplitude / (4 * math.log(10.0)) + 8 * unit)
    return limits


def positions_limit(last: int) -> float:
    """Returns the largest difference allowed for the positional encoding of positions up to `last`.

    A bound, not an estimate: two libraries may differ by 2 units in the last place (4 u) of exp, which `last`
    multiplies, and by as much of sin and cos.
    """
    return 4 * UNIT_ROUNDOFF[torch.float32] * (1 + last)


def _fan_in(module: nn.Module) -> int:
    """Returns how many products one output of a convolution or a matrix adds; 0 for norms."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return int(module.in_channels // module.groups * math.prod(module.kernel_size))
    return int(module.in_features) if isinstance(module, nn.Linear) else 0
