"""Synthetic audio."""

from __future__ import annotations

import io
import wave

import numpy as np

from warmtalk.core.types import Samples


def syllables(seconds: float, rate_hz: int = 16_000) -> Samples:
    """Returns a 120 Hz tone with decaying harmonics, modulated at 3 Hz like syllables: enough to move the mouth."""
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    voiced = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25))
    return np.asarray(voiced * np.clip(np.sin(2 * np.pi * 3 * t), 0, None) * 0.2, np.float32)


def wav(samples: Samples, rate_hz: int = 16_000) -> bytes:
    """Returns a 16-bit mono WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate_hz, 0, "NONE", ""))
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


SPEECH = syllables(2.0)
