"""Admission control: decides whether one more stream may open, and reports the capacity of the server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction

from warmtalk.core.errors import Busy
from warmtalk.core.pipeline import RenderModel
from warmtalk.core.ports import BatchRenderer
from warmtalk.core.scheduler import streams_at
from warmtalk.core.types import FrameClock

_RATE_WINDOW = 64
"""Batches in the throughput median."""


class ThroughputMeter:
    """Median throughput of the latest batches. One thread records, any thread reads."""

    def __init__(self) -> None:
        self._seconds_per_face: deque[float] = deque(maxlen=_RATE_WINDOW)

    def record(self, seconds: float, frames: int) -> None:
        """Adds a batch of `frames` with a device time of `seconds`."""
        self._seconds_per_face.append(seconds / frames)

    @property
    def faces_per_second(self) -> float:
        """Faces per second, the median over the latest batches; 0 before the first batch."""
        times = sorted(self._seconds_per_face)
        return 1 / times[len(times) // 2] if times else 0.0


class Admission:
    """Limits the number of open streams by `max_streams` and by the measured speed of the renderers.

    Event loop only. All streams open on the event loop, so a check stays valid until the stream is added.
    """

    def __init__(self, models: Mapping[str, RenderModel], max_streams: int) -> None:
        self._models = models
        self._max_streams = max_streams
        self._opening = 0

    @contextmanager
    def reserve(self, open_streams: int) -> Iterator[None]:
        """Holds a place while a stream opens, which takes as long as loading the avatar.

        Raises Busy when `open_streams` and the reservations of others fill all places.
        """
        if open_streams + self._opening >= self._max_streams:
            raise Busy(
                f"all {self._max_streams} streams of this server are taken",
                "Try again soon, or raise infer.max_streams",
                retry_after_s=1.0,
            )
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    def check_speed(self, renderer: str, open_streams: int, fps: Fraction) -> None:
        """Raises Busy when the renderer could not keep up with one stream more than `open_streams`.

        The first stream is always admitted, also on a device slower than real time.
        """
        rate = self._measured_rate(renderer)
        if rate and open_streams >= max(1, streams_at(rate, fps)):
            raise Busy(
                f"{rate:.0f} faces per second serve the {open_streams} open streams of this server and no more",
                "Try again soon, or add a server",
                retry_after_s=1.0,
            )

    @property
    def capacity(self) -> int:
        """Largest number of streams at 25 fps, with the fastest renderer of the server."""
        rates = [self._measured_rate(name) for name in self._models]
        if 0.0 in rates:
            return self._max_streams
        return min(self._max_streams, streams_at(max(rates), FrameClock().fps))

    def _measured_rate(self, name: str) -> float:
        """Returns the faces per second measured at start-up; 0 when not measured."""
        renderer = self._models[name].renderer
        return renderer.faces_per_second if isinstance(renderer, BatchRenderer) else 0.0
