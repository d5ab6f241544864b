"""When the next frame of a live stream is due, and what its client has still to read."""

from __future__ import annotations

import asyncio
import time

from warmtalk.core.types import CLIP_RATE_HZ

_EVEN_S = 0.02
"""A frame that is made sooner is sent so long after it was due to be made: the busy moments of a machine, as when many
streams need one at once, do not show in the times between frames.
"""
_LATE_S = 0.4
"""A stream that is held up for longer goes on from where it is, else it catches up."""


class FramePacer:
    """The wall clock of one stream. Event loop only."""

    def __init__(self, ahead_s: float) -> None:
        """`ahead_s`: how far frames are made before a player needs them."""
        self._ahead_s = ahead_s
        self._epoch = time.monotonic()

    async def wait(self, samples: int) -> None:
        """Returns when the frame that starts at this place of the stream is due."""
        late_s = -self._until_s(samples)
        if late_s > _LATE_S:
            self._epoch += late_s
        await asyncio.sleep(self.left_s(samples))

    async def even(self, samples: int) -> None:
        """Returns when the frame that starts at this place of the stream is to be sent."""
        await asyncio.sleep(max(0.0, self._until_s(samples) + min(_EVEN_S, self._ahead_s)))

    def left_s(self, samples: int) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._until_s(samples))

    def _until_s(self, samples: int) -> float:
        return self._epoch + samples / CLIP_RATE_HZ - self._ahead_s - time.monotonic()

    def stood_still(self, samples: int) -> None:
        """Nothing was shown for a while: time goes on from here."""
        self._epoch = max(self._epoch, time.monotonic() - samples / CLIP_RATE_HZ)
