"""Silence gate: closes the lips in silence, for any renderer. Without voice, features fade to the features of silence.

Wraps the speech encoder of a renderer with mouth motion in silence. The embedded encoder has a gate of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from warmtalk.core.ports import LookaheadStream, SpeechEncoder, SpeechStream
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples

_ROW = SPEECH_RATE_HZ // 100
"""Samples in one row of the gate, 10 ms."""
_AHEAD = 12
"""Default lookahead in rows: the lips start to open before the voice."""
_HANG = 12
"""Rows between the last voice and the start of closing."""
_RISE, _FALL = 1 / 10, 1 / 8
"""Change of the gate per row, opening and closing."""
_QUIET_DB = -55.0
"""Lowest level of voice, relative to full scale."""
_ABOVE_FLOOR_DB, _BELOW_PEAK_DB = 9.0, 32.0
"""Least distance of voice above the noise floor, and largest distance below the peak of the voice."""
_FLOOR_RISE_DB, _PEAK_FALL_DB = 0.05, 0.02
"""Decay of the noise floor and of the peak per row."""
_RECENT, _ENOUGH = 5, 3
"""Voice means 3 loud rows of the last 5. A click gives a single loud row."""


class SilenceGatedEncoder:
    """A core.ports.SpeechEncoder that wraps another encoder with the gate."""

    def __init__(self, encoder: SpeechEncoder, *, ahead_ms: int = 10 * _AHEAD) -> None:
        """`ahead_ms` is the lookahead, 10 to 120: the lips may open so long before the voice."""
        self._encoder = encoder
        self._ahead = min(max(ahead_ms // 10, 1), _AHEAD)
        self._silence_rows: dict[Fraction, Features] = {}

    def start_stream(self, clock: FrameClock) -> SpeechStream:
        voice = VoiceActivity(ahead=self._ahead)
        return _GatedStream(self._encoder.start_stream(clock), clock, voice, lambda: self._silence_row(clock))

    def _silence_row(self, clock: FrameClock) -> Features:
        """Returns the silence row of an encoder without `silence_features`: the middle row of one second of silence."""
        if clock.fps not in self._silence_rows:
            stream = self._encoder.start_stream(clock)
            rows = np.concatenate([stream.push_audio(np.zeros(SPEECH_RATE_HZ, np.float32)), stream.finish()])
            self._silence_rows[clock.fps] = rows[len(rows) // 2]
        return self._silence_rows[clock.fps]


class _GatedStream:
    """Gated encoding of one utterance. Returns rows as soon as both the encoder and the gate have enough audio."""

    def __init__(
        self, inner: SpeechStream, clock: FrameClock, voice: VoiceActivity, silence_row: Callable[[], Features]
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._voice = voice
        self._silence_row = silence_row
        self._ready: deque[Features] = deque()
        self._frame = 0

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        if isinstance(self._inner, LookaheadStream):
            self._inner.look_ahead(samples, last=last)

    def push_audio(self, samples: Samples) -> Features:
        self._voice.push_audio(samples)
        self._ready.extend(self._inner.push_audio(samples))
        return self._gated_rows()

    def finish(self) -> Features:
        self._voice.finish()
        self._ready.extend(self._inner.finish())
        return self._gated_rows()

    def silence_features(self, frame: int) -> Features:
        """Returns the feature row of silence at `frame`."""
        return self._inner.silence_features(frame) if isinstance(self._inner, LookaheadStream) else self._silence_row()

    def _gated_rows(self) -> Features:
        rows: list[Features] = []
        while self._ready and (gate := self._gate()) is not None:
            row = self._ready.popleft()
            if gate < 1:
                silence = self.silence_features(self._frame)
                row = np.asarray(silence + gate * (row - silence), row.dtype)
            rows.append(row)
            self._frame += 1
        return np.array(rows, np.float32) if rows else np.zeros((0, *self.silence_features(0).shape), np.float32)

    def _gate(self) -> float | None:
        edges = (self._clock.samples_at(self._frame + k, SPEECH_RATE_HZ) for k in (0, 1))
        return self._voice.gate_at(sum(edges) // (2 * _ROW))


class VoiceActivity:
    """Voice activity detector on incremental audio: a gate value from 0 (closed) to 1 (open) for each row of 10 ms."""

    def __init__(self, *, ahead: int = _AHEAD) -> None:
        """`ahead` is the lookahead in rows: the gate of a row depends on as many rows after the row."""
        self._ahead = ahead
        self._remainder = np.zeros(0, np.float32)
        self._floor = 0.0
        self._peak = _QUIET_DB
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._rows_since_voice = ahead + _HANG
        self._level = 0.0
        self._gates: list[float] = []
        self._finished = False

    def push_audio(self, samples: Samples) -> None:
        """Consumes 16 kHz samples, any number."""
        audio = np.concatenate([self._remainder, samples])
        rows = len(audio) // _ROW
        self._remainder = audio[rows * _ROW :]
        power = np.square(audio[: rows * _ROW].reshape(rows, _ROW)).mean(1)
        for level in 10 * np.log10(power + 1e-10):
            self._gates.append(self._update(float(level)))

    def finish(self) -> None:
        """Ends the audio; the gate treats the future as silence."""
        self.push_audio(np.zeros((self._ahead + 1) * _ROW, np.float32))
        self._finished = True

    def gate_at(self, row: int) -> float | None:
        """Returns the gate of a row; None before the audio of the lookahead has arrived."""
        index = row + self._ahead
        if index < len(self._gates):
            return self._gates[index]
        return self._gates[-1] if self._finished and self._gates else None

    def _update(self, level: float) -> float:
        """Returns the gate after a row of this level in dB."""
        self._floor = min(level, self._floor + _FLOOR_RISE_DB)
        self._peak = max(level, self._peak - _PEAK_FALL_DB)
        threshold = max(_QUIET_DB, min(self._floor + _ABOVE_FLOOR_DB, self._peak - 6.0), self._peak - _BELOW_PEAK_DB)
        self._recent.append(level > threshold)
        self._rows_since_voice = 0 if sum(self._recent) >= _ENOUGH else self._rows_since_voice + 1
        self._level += _RISE if self._rows_since_voice < self._ahead + _HANG else -_FALL
        self._level = min(1.0, max(0.0, self._level))
        return self._level
