"""Gate of the mouth opening: open around voice, closed in silence and noise."""

from __future__ import annotations

from collections import deque

from warmtalk.models.mouth.stream import LOOKAHEAD

_HOLD_ROWS = 12
"""Rows after the last voice before the lips start to close: 120 ms."""
_RISE, _FALL = 1 / 10, 1 / 8
"""Change per row: the lips open in 100 ms, starting LOOKAHEAD rows before the voice, and close in 80 ms."""
_RECENT_ROWS, _MIN_VOICED = 5, 3
"""Number of recent rows, and voiced rows among those that make a voice. Noise has single voiced rows."""


class VoiceGate:
    """State of one utterance. The output belongs to the row LOOKAHEAD rows before the input."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=_RECENT_ROWS)
        self._rows_since_voice = LOOKAHEAD + _HOLD_ROWS
        self._gate = 0.0

    def update(self, voiced: bool) -> float:
        """Returns 0 (closed) to 1 (open); exactly 0 after the lips have closed."""
        self._recent.append(voiced)
        self._rows_since_voice = 0 if sum(self._recent) >= _MIN_VOICED else self._rows_since_voice + 1
        step = _RISE if self._rows_since_voice < LOOKAHEAD + _HOLD_ROWS else -_FALL
        self._gate = min(1.0, max(0.0, self._gate + step))
        return self._gate
