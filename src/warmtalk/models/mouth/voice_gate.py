"""When the mouth may be open at all: around voice, never in silence or noise."""

from __future__ import annotations

from collections import deque

from warmtalk.models.mouth.stream import LOOKAHEAD

_HANG = 12
"""Rows after the last voice before the lips start to close: 120 ms."""
_RISE, _FALL = 1 / 10, 1 / 8
"""Change per row: lips part in 100 ms, beginning LOOKAHEAD before the voice, and shut in 80 ms."""
_RECENT, _ENOUGH = 5, 3
"""Voiced rows out of the last five that make a voice; noise has single ones."""


class VoiceGate:
    """One utterance. It answers for the row LOOKAHEAD before the one it hears."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._rows_since_voice = LOOKAHEAD + _HANG
        self._gate = 0.0

    def hear(self, voiced: bool) -> float:
        """0 closed to 1 open, exactly 0 once the lips have shut."""
        self._recent.append(voiced)
        self._rows_since_voice = 0 if sum(self._recent) >= _ENOUGH else self._rows_since_voice + 1
        step = _RISE if self._rows_since_voice < LOOKAHEAD + _HANG else -_FALL
        self._gate = min(1.0, max(0.0, self._gate + step))
        return self._gate
