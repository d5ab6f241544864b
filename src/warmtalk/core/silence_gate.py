"""Silence means closed lips, for any renderer: features fade to those of silence where there is no voice.

Wrap the speech encoder of a renderer whose mouth moves in silence; the embedded one has a gate of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from warmtalk.core.ports import LookaheadStream, SpeechEncoder, SpeechStream
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples

_ROW = SPEECH_RATE_HZ // 100
"""Samples of a row, 10 ms."""
_AHEAD = 12
"""Rows of voice heard before the lips may move: they part in time."""
_HANG = 12
"""Rows after the last voice before the lips start to close."""
_RISE, _FALL = 1 / 10, 1 / 8
"""Change per row."""
_QUIET_DB = -55.0
"""Full scale. Nothing below is voice."""
_ABOVE_FLOOR_DB, _BELOW_PEAK_DB = 9.0, 32.0
"""How far voice stands out of the noise, and how far the loudest voice stands out of any."""
_FLOOR_RISE_DB, _PEAK_FALL_DB = 0.05, 0.02
"""Per row: how fast the levels of noise and of the loudest voice are forgotten."""
_RECENT, _ENOUGH = 5, 3
"""Loud rows out of the last five that make a voice; a click is one."""


class SilenceGatedEncoder:
    """core.ports.SpeechEncoder around another one."""

    def __init__(self, encoder: SpeechEncoder, *, ahead_ms: int = 10 * _AHEAD) -> None:
        """`ahead_ms` is how much before the voice the lips may part, and how much sound that takes: 10 to 120."""
        self._encoder = encoder
        self._ahead = min(max(ahead_ms // 10, 1), _AHEAD)
        self._learned: dict[Fraction, Features] = {}

    def start_stream(self, clock: FrameClock) -> SpeechStream:
        voice = VoiceActivity(ahead=self._ahead)
        return _GatedStream(self._encoder.start_stream(clock), clock, voice, lambda: self._learn(clock))

    def _learn(self, clock: FrameClock) -> Features:
        """The row of silence of an encoder that does not tell it: from the middle of a second of it, heard once."""
        if clock.fps not in self._learned:
            stream = self._encoder.start_stream(clock)
            heard = np.concatenate([stream.push_audio(np.zeros(SPEECH_RATE_HZ, np.float32)), stream.finish()])
            self._learned[clock.fps] = heard[len(heard) // 2]
        return self._learned[clock.fps]


class _GatedStream:
    """One utterance. Answers when both the encoder and the gate have heard enough."""

    def __init__(
        self, inner: SpeechStream, clock: FrameClock, voice: VoiceActivity, learn: Callable[[], Features]
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._voice = voice
        self._learn = learn
        self._ready: deque[Features] = deque()
        self._frame = 0

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        if isinstance(self._inner, LookaheadStream):
            self._inner.look_ahead(samples, last=last)

    def push_audio(self, samples: Samples) -> Features:
        self._voice.push_audio(samples)
        self._ready.extend(self._inner.push_audio(samples))
        return self._gated()

    def finish(self) -> Features:
        self._voice.finish()
        self._ready.extend(self._inner.finish())
        return self._gated()

    def silence_features(self, frame: int) -> Features:
        """The row of silence."""
        return self._inner.silence_features(frame) if isinstance(self._inner, LookaheadStream) else self._learn()

    def _gated(self) -> Features:
        rows: list[Features] = []
        while self._ready and (gate := self._gate()) is not None:
            row = self._ready.popleft()
            if gate < 1:
                rest = self.silence_features(self._frame)
                row = np.asarray(rest + gate * (row - rest), row.dtype)
            rows.append(row)
            self._frame += 1
        return np.array(rows, np.float32) if rows else np.zeros((0, *self.silence_features(0).shape), np.float32)

    def _gate(self) -> float | None:
        edges = (self._clock.samples_at(self._frame + k, SPEECH_RATE_HZ) for k in (0, 1))
        return self._voice.at(sum(edges) // (2 * _ROW))


class VoiceActivity:
    """How far the mouth may be open, 0 to 1, for each 10 ms of a sound that comes in pieces."""

    def __init__(self, *, ahead: int = _AHEAD) -> None:
        """`ahead` rows after a row are heard before it is answered for."""
        self._ahead = ahead
        self._rest = np.zeros(0, np.float32)
        self._floor = 0.0
        self._peak = _QUIET_DB
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._since = ahead + _HANG
        self._level = 0.0
        self._gates: list[float] = []
        self._finished = False

    def push_audio(self, samples: Samples) -> None:
        """16 kHz, any number."""
        sound = np.concatenate([self._rest, samples])
        whole = len(sound) // _ROW
        self._rest = sound[whole * _ROW :]
        power = np.square(sound[: whole * _ROW].reshape(whole, _ROW)).mean(1)
        for level in 10 * np.log10(power + 1e-10):
            self._gates.append(self._hear(float(level)))

    def finish(self) -> None:
        """Nothing more comes: silence follows."""
        self.push_audio(np.zeros((self._ahead + 1) * _ROW, np.float32))
        self._finished = True

    def at(self, row: int) -> float | None:
        """None while what comes after the row was not heard yet."""
        place = row + self._ahead
        if place < len(self._gates):
            return self._gates[place]
        return self._gates[-1] if self._finished and self._gates else None

    def _hear(self, level: float) -> float:
        self._floor = min(level, self._floor + _FLOOR_RISE_DB)
        self._peak = max(level, self._peak - _PEAK_FALL_DB)
        least = max(_QUIET_DB, min(self._floor + _ABOVE_FLOOR_DB, self._peak - 6.0), self._peak - _BELOW_PEAK_DB)
        self._recent.append(level > least)
        self._since = 0 if sum(self._recent) >= _ENOUGH else self._since + 1
        self._level += _RISE if self._since < self._ahead + _HANG else -_FALL
        self._level = min(1.0, max(0.0, self._level))
        return self._level
