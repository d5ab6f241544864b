"""Converts a stream of audio from one sample rate to another."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import soxr

from warmtalk.core.types import Samples


class Resampler:
    """Resamples mono audio chunk by chunk (soxr "HQ"). Not thread-safe.

    After `flush`, exactly round(samples in * rate out / rate in) samples were returned.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        self._ratio = Fraction(rate_out_hz, rate_in_hz)
        self._stream = soxr.ResampleStream(rate_in_hz, rate_out_hz, 1, dtype="float32", quality="HQ")
        self._samples_in = 0
        self._samples_out = 0

    def resample(self, samples: Samples) -> Samples:
        """Takes any number of samples and returns the samples that are ready. The rest comes with later calls."""
        self._samples_in += len(samples)
        ready: Samples = samples if self._ratio == 1 else self._stream.resample_chunk(samples)
        self._samples_out += len(ready)
        return ready

    def flush(self) -> Samples:
        """Returns the remaining samples. Call once."""
        if self._ratio == 1:
            return np.zeros(0, np.float32)
        missing = round(self._samples_in * self._ratio) - self._samples_out
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)[:missing]
        return np.pad(rest, (0, missing - len(rest)))
