"""Wall-clock pacing of a live stream."""

from __future__ import annotations

from warmtalk.core.types import CLIP_RATE_HZ
from warmtalk.services.session.live.time_source import SYSTEM_TIME, TimeSource

_SEND_DELAY_S = 0.02
"""Delay between the due time and the send time of a frame. A machine that is busy for a moment, as when many streams
need the processor at once, then does not change the interval between frames.
"""
_MAX_CATCH_UP_S = 0.4
"""A stream that is late by more continues from the present position; a smaller delay is caught up."""


class FramePacer:
    """Maps positions of one stream to due times. Event loop only.

    Positions are 48 kHz samples from the start of the stream.
    """

    def __init__(self, ahead_s: float, time_source: TimeSource = SYSTEM_TIME) -> None:
        """`ahead_s` is the time by which frames are made before the player needs them."""
        self._ahead_s = ahead_s
        self._time = time_source
        self._epoch = time_source.monotonic()
        """Time at which the player shows position 0."""

    async def wait_until_due(self, position: int) -> None:
        """Returns when the frame that starts at `position` has to be made."""
        late_s = -self._until_due_s(position)
        if late_s > _MAX_CATCH_UP_S:
            self._epoch += late_s
        await self._time.sleep(self.time_left_s(position))

    async def wait_until_send(self, position: int) -> None:
        """Returns when the frame that starts at `position` has to be sent."""
        delay_s = min(_SEND_DELAY_S, self._ahead_s)
        await self._time.sleep(max(0.0, self._until_due_s(position) + delay_s))

    def time_left_s(self, position: int) -> float:
        """Returns the seconds until the frame at `position` is due, at least 0."""
        return max(0.0, self._until_due_s(position))

    def resume_at(self, position: int) -> None:
        """Continues at `position` now, after a pause in which no frame was shown."""
        self._epoch = max(self._epoch, self._time.monotonic() - position / CLIP_RATE_HZ)

    def _until_due_s(self, position: int) -> float:
        return self._epoch + position / CLIP_RATE_HZ - self._ahead_s - self._time.monotonic()
