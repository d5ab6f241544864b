"""What both mouths hear: log-mel bands, loudness and voicing, one row every 10 ms.

Everything runs row by row on an absolute 10 ms grid, so a row does not depend on how the sound was cut
into pieces, not even in its last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import log10

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
FEATURES = BANDS + 1
"""Numbers in a row of RelativeSound: the bands and the voicing."""
SETTLE = 6
"""Rows that the loudness may learn before a row is measured against it."""
SILENCE_DB = -100.0
"""Level below which nothing is told apart, about that of 16-bit rounding; 0 dB is a full-scale sine."""

_FFT = 2 * WINDOW
_PITCH_LAGS = slice(SPEECH_RATE_HZ // 400, SPEECH_RATE_HZ // 75)
_VOICE_BAND_HZ = (90.0, 3000.0)
_QUIETEST = np.float32(10.0 ** (SILENCE_DB / 10))


@dataclass(frozen=True, slots=True)
class MelFrame:
    """One row. Row h is centred on sample h * HOP."""

    bands_db: Floats
    """[BANDS] float32 power of each band, dB, not below SILENCE_DB."""
    level_db: float
    """Power of all bands together, dB."""
    voicing: float
    """Height of the pitch peak, 0 (noise) to about 1 (a steady vowel)."""


def mel_bank(bands: int = BANDS, low_hz: float = 80.0, high_hz: float = 7600.0) -> Floats:
    """[bands, _FFT // 2 + 1] triangles on the mel scale m = 2595 log10(1 + f / 700) (O'Shaughnessy)."""
    low_mel, high_mel = (2595.0 * log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    edges_mel = np.linspace(low_mel, high_mel, bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(_FFT, 1.0 / SPEECH_RATE_HZ)
    left, middle, right = (edges_hz[i : i + bands, None] for i in range(3))
    rising, falling = (bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)
    bank: Floats = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank


class LogMelExtractor:
    """Sound in pieces of any size to rows. One stream, not thread-safe."""

    def __init__(self) -> None:
        self._waiting = np.zeros(WINDOW // 2, np.float32)  # before the first sample there is silence

    def accept(self, samples: Samples) -> Iterator[MelFrame]:
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


def _hear(window: Floats) -> MelFrame:
    spectrum = np.fft.rfft(window * _TAPER, _FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) * _SCALE
    bands: Floats = _BANK @ power
    level = 10.0 * log10(bands.sum() + _QUIETEST)
    bands_db: Floats = np.float32(10.0) * np.log10(bands + _QUIETEST)
    return MelFrame(bands_db, level, _voicing(power))


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


class Loudness:
    """How loud this voice is: a running level of its voiced rows, and the noise below it. One stream.

    It needs no calibration: the first voiced row sets the level, later ones move it quickly up and slowly
    down, so that a whisperer's vowels and a shouter's come out alike.
    """

    def __init__(self) -> None:
        self.voice_db = _FIRST_VOICE_DB
        self._noise_db = _LOUDEST_FIRST_NOISE_DB
        self._voiced_rows = 0
        self._rows_since_pitch = _CREAK_ROWS

    def hear(self, row: MelFrame) -> bool:
        """Learns from the next row; True when it is this voice, not noise and not something far behind it.

        A voice may creak: as loud as its vowels and without a pitch for a while. Noise that nobody spoke before has
        no such credit.
        """
        pitched = row.voicing > _PITCHED and row.level_db > self._noise_db + _ABOVE_NOISE_DB
        self._follow_noise(row.level_db, pitched)
        self._rows_since_pitch += 1
        if pitched:
            self._follow_voice(row.level_db)
            self._rows_since_pitch = 0
        above_noise_db = row.level_db - self._noise_db
        creaks = self._rows_since_pitch < _CREAK_ROWS and above_noise_db > _CREAK_ABOVE_NOISE_DB
        return row.level_db > self.voice_db - (_BELOW_VOICE_DB if pitched else _CREAK_BELOW_VOICE_DB) and (
            pitched or creaks
        )

    def _follow_noise(self, level_db: float, pitched: bool) -> None:
        rise_db = 0.01 if pitched else 0.1
        self._noise_db += min(0.2 * (max(level_db, _LEAST_NOISE_DB) - self._noise_db), rise_db)

    def _follow_voice(self, level_db: float) -> None:
        self._voiced_rows += 1
        slow = max(1.0 / self._voiced_rows, 0.005)
        rate = max(slow, 0.2) if level_db > self.voice_db else slow
        self.voice_db += rate * (level_db - self.voice_db)


_PITCHED = 0.4
_FIRST_VOICE_DB = -40.0
_LOUDEST_FIRST_NOISE_DB = -50.0
_LEAST_NOISE_DB = -70.0
_ABOVE_NOISE_DB = 8.0
_BELOW_VOICE_DB = 25.0
_CREAK_ROWS = 80
"""How long a creak may be."""
_CREAK_BELOW_VOICE_DB = 12.0
_CREAK_ABOVE_NOISE_DB = 20.0


class NormalizedFeatures:
    """Rows with the loudness of the voice taken out. One stream.

    A row answers SETTLE rows late: at the start of a voice the loudness needs them to find its level.
    """

    RANGE_DB = (-50.0, 20.0)
    """Band levels against the voice that are told apart."""
    UNIT_DB = 20.0
    QUIET = np.append(np.full(BANDS, RANGE_DB[0] / UNIT_DB), 0.0).astype(np.float32)
    """[FEATURES] the row of silence."""

    def __init__(self) -> None:
        self._loudness = Loudness()
        self._unsettled: deque[MelFrame] = deque(maxlen=SETTLE + 1)

    def hear(self, row: MelFrame) -> tuple[bool, Floats]:
        """Whether this row is voice, and [FEATURES] float32 of the row SETTLE before it: bands in UNIT_DB
        against the voice, then voicing."""
        voiced = self._loudness.hear(row)
        self._unsettled.append(row)
        if len(self._unsettled) <= SETTLE:
            return voiced, self.QUIET
        settled = self._unsettled[0]
        relative_db = np.clip(settled.bands_db - np.float32(self._loudness.voice_db), *self.RANGE_DB)
        return voiced, np.append(relative_db / np.float32(self.UNIT_DB), np.float32(settled.voicing))
