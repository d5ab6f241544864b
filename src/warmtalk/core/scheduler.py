"""Batch scheduler: selects the next frames of all streams to render as one batch. No clock, no threads, no networks.

Every frame has a deadline: the time when the frame is due, if its stream has played since the first frame could be
rendered. The earliest deadlines are served first, regardless of the stream. So the most urgent frame of every open
stream is in the batch, and a stream behind schedule gets a larger share. Frames of one stream keep their order. No
stream starves: the deadline of a waiting frame stays, while the deadlines of served streams advance.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction

Key = Hashable
"""Identifies a stream."""


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a batch: `count` frames of one stream, starting at frame `first`."""

    key: Key
    first: int
    count: int


@dataclass(slots=True)
class _Stream:
    interval_s: float
    credit: int
    share: int
    """Most frames of the stream in one batch."""
    next: int = 0
    """Number of the next frame to render."""
    ready: int = 0
    """Encoded frames, starting at `next`."""
    due_s: float = 0.0
    """Deadline of frame `next`."""

    @property
    def open_frames(self) -> int:
        """Frames allowed in a batch now: encoded and within the credit."""
        return min(self.ready, self.credit)


class Scheduler:
    """Earliest-deadline-first scheduler. A stream joins with `open`, adds frames and credit, and leaves with `close`.

    Not thread-safe: the engine calls every method under its lock. Times are seconds of any monotonic clock. Unknown
    keys are ignored, because work for a closed stream may still be in progress.
    """

    def __init__(self, *, max_batch: int) -> None:
        """`max_batch` is the largest number of frames in one batch."""
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, not 1 or more")
        self.max_batch = max_batch
        self._streams: dict[Key, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, key: Key) -> bool:
        return key in self._streams

    def open(self, key: Key, fps: Fraction, credit: int, share: int = 8) -> None:
        """Adds a stream. A batch holds at most `share` frames of the stream; the first frame comes alone, for low
        latency.

        Raises ValueError when the key is in use.
        """
        if key in self._streams:
            raise ValueError(f"stream {key!r} is open already")
        self._streams[key] = _Stream(float(1 / fps), credit, share)

    def close(self, key: Key) -> None:
        """Removes a stream and drops the waiting frames. May be called any number of times."""
        self._streams.pop(key, None)

    def add_frames(self, key: Key, frames: int, now_s: float) -> None:
        """Adds `frames` encoded frames, which may be rendered from now on."""
        self._add(key, frames, 0, now_s)

    def add_credit(self, key: Key, frames: int, now_s: float) -> None:
        """Allows `frames` more to be sent. A stream without credit is not served."""
        self._add(key, 0, frames, now_s)

    def next_due_s(self) -> float | None:
        """Returns the earliest deadline of all streams with frames to render; None without any."""
        return min((stream.due_s for stream in self._streams.values() if stream.open_frames), default=None)

    def next_batch(self) -> list[Share]:
        """Removes and returns the next batch, most urgent stream first; [] without frames to render. Spends credit."""
        counts: dict[Key, int] = {}
        waiting = [
            (stream.due_s, order, key)
            for order, (key, stream) in enumerate(self._streams.items())
            if stream.open_frames
        ]
        heapq.heapify(waiting)
        for _ in range(self.max_batch):
            if not waiting:
                break
            due, order, key = heapq.heappop(waiting)
            stream, count = self._streams[key], counts.get(key, 0) + 1
            counts[key] = count
            if count < min(stream.share if stream.next else 1, stream.open_frames):
                heapq.heappush(waiting, (due + stream.interval_s, order, key))
        return [self._spend(key, count) for key, count in counts.items()]

    def _add(self, key: Key, ready: int, credit: int, now_s: float) -> None:
        stream = self._streams.get(key)
        if stream is None:
            return
        idle = not stream.open_frames
        stream.ready += ready
        stream.credit += credit
        if idle and stream.open_frames:
            # The stream could not be served before now: time spent idle gives no claim on the time of other streams.
            stream.due_s = max(stream.due_s, now_s)

    def _spend(self, key: Key, count: int) -> Share:
        stream = self._streams[key]
        share = Share(key, stream.next, count)
        stream.next += count
        stream.ready -= count
        stream.credit -= count
        stream.due_s += count * stream.interval_s
        # A served stream moves behind other streams with the same deadline.
        self._streams[key] = self._streams.pop(key)
        return share


def streams_at(faces_per_second: float, fps: Fraction, *, reserve: float = 0.1) -> int:
    """Returns the number of streams of this rate for a device of `faces_per_second`, less the share in `reserve`."""
    return int(faces_per_second * (1 - reserve) / fps)
