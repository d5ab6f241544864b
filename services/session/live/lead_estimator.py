"""Estimates how far ahead of the playing frame a speech segment has to start. Pure."""

from __future__ import annotations

import math
from fractions import Fraction

_FIRST_DELAY_S = 0.1
"""Delay assumed before the first measurement."""
_RISE = 0.25
"""Share of an increase that one measurement adds to the estimate."""
_MIN_FRAMES, _MAX_FRAMES = 1, 8


class LeadEstimator:
    """Tracks the time from the start of a segment to the first rendered frame.

    Decreases apply at once, increases are smoothed: too long a lead delays every speech, too short a lead
    shows as a frame that waits.
    """

    def __init__(self) -> None:
        self._delay_s = _FIRST_DELAY_S

    def update(self, measured_s: float) -> None:
        """Takes one measured delay into the estimate."""
        self._delay_s = min(measured_s, self._delay_s + _RISE * (measured_s - self._delay_s))

    def lead_frames(self, time_left_s: float, fps: Fraction) -> int:
        """Returns the frames between the playing frame and the first frame of the segment.

        `time_left_s` is the time until the next frame is due.
        """
        frames = math.ceil((self._delay_s - time_left_s) * fps)
        return min(_MAX_FRAMES, max(_MIN_FRAMES, frames))
