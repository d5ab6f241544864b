"""Adapts the frame rate of a live stream to the speed of infer. Pure, but for the time source."""

from __future__ import annotations

from fractions import Fraction

from warmtalk.core.types import FrameClock
from warmtalk.services.session.live.time_source import SYSTEM_TIME, TimeSource

_RATES = (Fraction(25), Fraction(21), Fraction(17))
"""Frame rates of the steps, in descending order."""
_MIN_SLOW_S = 10.0
"""Time for which a stream stays at a lower rate before the next step up."""


class RateControl:
    """Frame rate of one stream: several steps down at once, one step up at a time."""

    def __init__(self, clock: FrameClock, time_source: TimeSource = SYSTEM_TIME) -> None:
        """`clock` has the rate of the conversation, which is the upper limit."""
        self.clock = clock
        """Frame clock at the present rate."""
        self._full_rate = clock.fps
        self._time = time_source
        self._lowered_at = 0.0

    def step_down(self, render_fps: float) -> bool:
        """Lowers the rate to the first step at or below `render_fps`. Returns False at the lowest step."""
        slower = [rate for rate in _RATES if rate < self.clock.fps]
        if not slower:
            return False
        self.clock = FrameClock(next((rate for rate in slower if rate <= render_fps), slower[-1]))
        self._lowered_at = self._time.monotonic()
        return True

    def step_up(self) -> bool:
        """Raises the rate by one step when the last step down is long enough ago. Returns True after a change.

        The load that made infer slow may have passed. Call between two segments of speech.
        """
        faster = [rate for rate in (*_RATES, self._full_rate) if self.clock.fps < rate <= self._full_rate]
        if not faster or self._time.monotonic() - self._lowered_at <= _MIN_SLOW_S:
            return False
        self.clock = FrameClock(min(faster))
        return True
