"""Log-mel bands, loudness and voicing of speech, one row every 10 ms: the input of the mouth networks.

All computations run row by row on an absolute 10 ms grid, so a row does not depend on the chunk boundaries of the
audio, not even in the last bit.
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
"""Samples in the analysis window, centred on the row: 32 ms cover three periods of a deep voice."""
BANDS = 32
"""Mel bands from 80 to 7600 Hz."""
FEATURES = BANDS + 1
"""Values in a row of NormalizedFeatures: the bands and the voicing."""
SETTLE = 6
"""Rows by which VoiceLevel is ahead of the row that is normalised with the level."""
SILENCE_DB = -100.0
"""Lower limit of all levels, about the level of 16-bit rounding noise; 0 dB is a full-scale sine."""

_FFT = 2 * WINDOW
_PITCH_LAGS = slice(SPEECH_RATE_HZ // 400, SPEECH_RATE_HZ // 75)
_VOICE_BAND_HZ = (90.0, 3000.0)
_QUIETEST = np.float32(10.0 ** (SILENCE_DB / 10))


@dataclass(frozen=True, slots=True)
class MelFrame:
    """Features of one row. Row h is centred on sample h * HOP."""

    bands_db: Floats
    """[BANDS] float32 power of each band in dB, at least SILENCE_DB."""
    level_db: float
    """Total power of all bands in dB."""
    voicing: float
    """Height of the pitch peak, 0 (noise) to about 1 (a steady vowel)."""


def mel_bank(bands: int = BANDS, low_hz: float = 80.0, high_hz: float = 7600.0) -> Floats:
    """Returns [bands, _FFT // 2 + 1] triangles on the mel scale m = 2595 log10(1 + f / 700) (O'Shaughnessy)."""
    low_mel, high_mel = (2595.0 * log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    edges_mel = np.linspace(low_mel, high_mel, bands + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(_FFT, 1.0 / SPEECH_RATE_HZ)
    left, middle, right = (edges_hz[i : i + bands, None] for i in range(3))
    rising, falling = (bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)
    bank: Floats = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank


class LogMelExtractor:
    """Converts audio chunks of any size to rows. Belongs to one stream; not thread-safe."""

    def __init__(self) -> None:
        self._pending = np.zeros(WINDOW // 2, np.float32)  # silence precedes the first sample

    def push_audio(self, samples: Samples) -> Iterator[MelFrame]:
        """Yields the rows whose window is now complete: row h needs the samples before h * HOP + WINDOW // 2."""
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        rows = max(0, (len(self._pending) - WINDOW) // HOP + 1)
        ready, self._pending = self._pending, self._pending[rows * HOP :]
        return (_mel_frame(ready[h * HOP : h * HOP + WINDOW]) for h in range(rows))


_TAPER = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_SCALE = np.float32((2.0 / _TAPER.sum()) ** 2)
_BANK = mel_bank()
_VOICE_BINS = slice(*(round(hz * _FFT / SPEECH_RATE_HZ) for hz in _VOICE_BAND_HZ))
_TAPER_AUTOCORRELATION = np.fft.irfft(np.abs(np.fft.rfft(_TAPER, _FFT)) ** 2)
_TAPER_CORRECTION = (_TAPER_AUTOCORRELATION[0] / _TAPER_AUTOCORRELATION[_PITCH_LAGS]).astype(np.float32)


def _mel_frame(window: Floats) -> MelFrame:
    spectrum = np.fft.rfft(window * _TAPER, _FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) * _SCALE
    bands: Floats = _BANK @ power
    level = 10.0 * log10(bands.sum() + _QUIETEST)
    bands_db: Floats = np.float32(10.0) * np.log10(bands + _QUIETEST)
    return MelFrame(bands_db, level, _voicing(power))


def _voicing(power: Floats) -> float:
    """Returns the peak of the autocorrelation of the flattened voice band, corrected for the decay of the taper.

    Flattening (magnitude instead of power) prevents that one strong formant or a hum looks like a pitch: Tolonen and
    Karjalainen 2000, "A computationally efficient multipitch analysis model", section II-B. Division by the
    autocorrelation of the taper: Boersma 1993, equation 9.
    """
    flat = np.zeros_like(power)
    flat[_VOICE_BINS] = np.sqrt(power[_VOICE_BINS])
    autocorrelation = np.fft.irfft(flat)
    return float((autocorrelation[_PITCH_LAGS] * _TAPER_CORRECTION).max() / (autocorrelation[0] + 1e-9))


class VoiceLevel:
    """Running level of the voiced rows of one stream, and the level of the background noise.

    No calibration is needed: the first voiced row sets the level, later rows move the level quickly up and slowly down.
    The vowels of a whispering and of a shouting speaker are therefore normalised to the same level.
    """

    def __init__(self) -> None:
        self.voice_db = _FIRST_VOICE_DB
        self._noise_db = _FIRST_NOISE_DB
        self._voiced_rows = 0
        self._rows_since_pitch = _CREAK_ROWS

    def update(self, row: MelFrame) -> bool:
        """Adapts to the next row. Returns True for voice, False for noise and for much quieter sounds.

        A creaky voice stays True: a sound as loud as the vowels and without pitch counts as voice for up to _CREAK_ROWS
        after the last pitch. Noise without preceding speech does not count as voice.
        """
        pitched = row.voicing > _PITCHED and row.level_db > self._noise_db + _ABOVE_NOISE_DB
        self._follow_noise(row.level_db, pitched)
        self._rows_since_pitch += 1
        if pitched:
            self._follow_voice(row.level_db)
            self._rows_since_pitch = 0
        above_noise_db = row.level_db - self._noise_db
        creaky = self._rows_since_pitch < _CREAK_ROWS and above_noise_db > _CREAK_ABOVE_NOISE_DB
        margin_db = _BELOW_VOICE_DB if pitched else _CREAK_BELOW_VOICE_DB
        return row.level_db > self.voice_db - margin_db and (pitched or creaky)

    def _follow_noise(self, level_db: float, pitched: bool) -> None:
        rise_db = 0.01 if pitched else 0.1
        self._noise_db += min(0.2 * (max(level_db, _MIN_NOISE_DB) - self._noise_db), rise_db)

    def _follow_voice(self, level_db: float) -> None:
        self._voiced_rows += 1
        slow = max(1.0 / self._voiced_rows, 0.005)
        rate = max(slow, 0.2) if level_db > self.voice_db else slow
        self.voice_db += rate * (level_db - self.voice_db)


_PITCHED = 0.4
"""Minimum voicing of a row with pitch."""
_FIRST_VOICE_DB = -40.0
_FIRST_NOISE_DB = -50.0
_MIN_NOISE_DB = -70.0
_ABOVE_NOISE_DB = 8.0
_BELOW_VOICE_DB = 25.0
_CREAK_ROWS = 80
"""Maximum duration of a creak: 800 ms."""
_CREAK_BELOW_VOICE_DB = 12.0
_CREAK_ABOVE_NOISE_DB = 20.0


class NormalizedFeatures:
    """Features normalised by the level of the voice. Belongs to one stream.

    The output is delayed by SETTLE rows, because VoiceLevel needs those rows to adapt at the start of speech.
    """

    RANGE_DB = (-50.0, 20.0)
    """Range of the band levels relative to the voice; levels outside are clipped."""
    UNIT_DB = 20.0
    SILENCE = np.append(np.full(BANDS, RANGE_DB[0] / UNIT_DB), 0.0).astype(np.float32)
    """[FEATURES] the row of silence."""

    def __init__(self) -> None:
        self._level = VoiceLevel()
        self._delayed: deque[MelFrame] = deque(maxlen=SETTLE + 1)

    def push_row(self, row: MelFrame) -> tuple[bool, Floats]:
        """Returns whether `row` is voice, and [FEATURES] float32 of the row SETTLE rows earlier.

        The features are the bands in UNIT_DB relative to the voice, then the voicing.
        """
        voiced = self._level.update(row)
        self._delayed.append(row)
        if len(self._delayed) <= SETTLE:
            return voiced, self.SILENCE
        settled = self._delayed[0]
        relative_db = np.clip(settled.bands_db - np.float32(self._level.voice_db), *self.RANGE_DB)
        return voiced, np.append(relative_db / np.float32(self.UNIT_DB), np.float32(settled.voicing))
