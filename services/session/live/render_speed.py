"""Measures how fast the infer service renders the frames of a speech segment. Pure."""

from __future__ import annotations

from collections import deque

_WINDOW_FRAMES = 25
"""Number of arrivals over which the speed is measured."""


class RenderSpeed:
    """Delay of the first frame and frames per second. Times are in seconds of one monotonic clock."""

    def __init__(self, started_at: float) -> None:
        self.first_frame_delay_s = 0.0
        """Time from the start to the first frame; 0 before."""
        self._started_at = started_at
        self._arrivals: deque[float] = deque(maxlen=_WINDOW_FRAMES)

    def add(self, frames: int, now: float) -> None:
        """Takes the arrival of `frames` frames into the measurement."""
        self.first_frame_delay_s = self.first_frame_delay_s or now - self._started_at
        self._arrivals.extend([now] * frames)

    def restart(self) -> None:
        """Forgets the arrivals so far."""
        self._arrivals.clear()

    @property
    def fps(self) -> float | None:
        """Frames per second over the last 25 frames; None before 25 frames have arrived."""
        if len(self._arrivals) < _WINDOW_FRAMES:
            return None
        return (_WINDOW_FRAMES - 1) / max(1e-6, self._arrivals[-1] - self._arrivals[0])
