"""What both mouths hear: log-mel bands, loudness and voicing, one row every 10 ms.

Everything runs row by row on an absolute 10 ms grid, so a row does not depend on how the sound was cut
into pieces, not even in its last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.core.types import SPEECH_RATE_HZ, Samples

Floats = npt.NDArray[np.float32]

HOP = 160
"""Samples between rows: 10 ms."""
WINDOW = 512
"""Samples in the analysis window, centred on the row: 32 ms holds three periods of a deep voice."""
BANDS = 32
"""Mel bands from 80 to 7600 Hz."""
SILENCE_DB = -70.0
"""Level below which nothing is told apart; 0 dB is a full-scale sine."""

_FFT = 2 * WINDOW
_PITCH_LAGS = slice(SPEECH_RATE_HZ // 400, SPEECH_RATE_HZ // 75)
_VOICE_BAND_HZ = (90.0, 3000.0)
_QUIETEST = np.float32(10.0 ** (SILENCE_DB / 10))


@dataclass(frozen=True, slots=True)
class Heard:
    """One row. Row h is centred on sample h * HOP."""

    bands_db: Floats
    """[BANDS] float32 power of each band, dB, not below SILENCE_DB."""
    level_db: float
    """Power of all bands together, dB."""
    voicing: float
    """Height of the pitch peak, 0 (noise) to about 1 (a steady vowel)."""


def mel_bank(bands: int = BANDS, low_hz: float = 80.0, high_hz: float = 7600.0) -> Floats:
    """[bands, _FFT // 2 + 1] triangles on the mel scale m = 2595 log10(1 + f / 700) (O'Shaughnessy)."""
    edges_mel = np.linspace(*(2595.0 * np.log10(1.0 + np.array([low_hz, high_hz]) / 700.0)), bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(_FFT, 1.0 / SPEECH_RATE_HZ)
    left, middle, right = (edges_hz[i : i + bands, None] for i in range(3))
    rising, falling = (bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


class Ear:
    """Sound in pieces of any size to rows. One stream, not thread-safe."""

    def __init__(self) -> None:
        self._waiting = np.zeros(WINDOW // 2, np.float32)  # before the first sample there is silence

    def accept(self, samples: Samples) -> Iterator[Heard]:
        """The rows whose window is now complete: row h needs the samples before h * HOP + WINDOW // 2."""
        self._waiting = np.concatenate([self._waiting, np.asarray(samples, np.float32)])
        rows = max(0, (len(self._waiting) - WINDOW) // HOP + 1)
        ready, self._waiting = self._waiting, self._waiting[rows * HOP :]
        return (_hear(ready[h * HOP : h * HOP + WINDOW]) for h in range(rows))


_TAPER = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_SCALE = np.float32((2.0 / _TAPER.sum()) ** 2)
_BANK = mel_bank()
_VOICE_BINS = slice(*(round(hz * _FFT / SPEECH_RATE_HZ) for hz in _VOICE_BAND_HZ))
_SAG = np.fft.irfft(np.abs(np.fft.rfft(_TAPER, _FFT)) ** 2)
_UNSAG = (_SAG[0] / _SAG[_PITCH_LAGS]).astype(np.float32)


def _hear(window: Floats) -> Heard:
    spectrum = np.fft.rfft(window * _TAPER, _FFT)
    power = (spectrum.real**2 + spectrum.imag**2) * _SCALE
    bands = _BANK @ power
    level = 10.0 * float(np.log10(bands.sum() + _QUIETEST))
    return Heard(10.0 * np.log10(bands + _QUIETEST), level, _voicing(power))


def _voicing(power: Floats) -> float:
    """Peak of the autocorrelation of the flattened voice band, the taper's own fall divided out.

    Flattening (magnitude for power) keeps one strong formant or a hum from looking like a pitch:
    Tolonen and Karjalainen 2000, "A computationally efficient multipitch analysis model", section II-B;
    dividing by the taper's autocorrelation: Boersma 1993, equation 9.
    """
    flat = np.zeros_like(power)
    flat[_VOICE_BINS] = np.sqrt(power[_VOICE_BINS])
    curve = np.fft.irfft(flat)
    return float((curve[_PITCH_LAGS] * _UNSAG).max() / (curve[0] + 1e-9))
