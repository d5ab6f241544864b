"""Which windows of which conversations are drawn next, as one batch. Pure: no clock, no threads, no networks.

Every frame has a deadline: the time it is due if its stream plays from when it could first be drawn. The earliest
deadlines go first, whichever streams they are of, so every open conversation has its most urgent window in the batch
and one that is behind gets more. Within a stream frames keep their order. Nothing starves: a waiting frame's deadline
stays, those of the streams that are served move on.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction

Key = Hashable


@dataclass(frozen=True, slots=True)
class Share:
    """`count` frames of one stream from `first` on."""

    key: Key
    first: int
    count: int


@dataclass(slots=True)
class _Stream:
    interval_s: float
    credit: int
    share: int
    """Most of its frames in one batch."""
    next: int = 0
    """First frame that was not taken yet."""
    ready: int = 0
    """Frames whose features are there, from `next` on."""
    due_s: float = 0.0
    """Deadline of frame `next`."""

    @property
    def open_frames(self) -> int:
        return min(self.ready, self.credit)


class Scheduler:
    """Streams come with `open`, offer frames and credit as they have them, and leave with `close` at any time.

    Not thread-safe: the engine guards it with its lock. Times are seconds of any steady clock. Unknown keys are
    passed over, so that what is under way for a stream that left does no harm.
    """

    def __init__(self, *, max_batch: int) -> None:
        """At most `max_batch` frames at once."""
        if max_batch < 1:
            raise ValueError(f"a batch of {max_batch} is none")
        self.max_batch = max_batch
        self._streams: dict[Key, _Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, key: Key) -> bool:
        return key in self._streams

    def open(self, key: Key, fps: Fraction, credit: int, share: int = 8) -> None:
        """At most `share` frames of it come at once, the first alone, to be early.

        Raises ValueError when the key is taken.
        """
        if key in self._streams:
            raise ValueError(f"stream {key!r} is open already")
        self._streams[key] = _Stream(float(1 / fps), credit, share)

    def close(self, key: Key) -> None:
        """Also the abort: frames not taken are forgotten. Any number of times."""
        self._streams.pop(key, None)

    def add_frames(self, key: Key, frames: int, now_s: float) -> None:
        """`frames` more can be drawn."""
        self._add(key, frames, 0, now_s)

    def add_credit(self, key: Key, frames: int, now_s: float) -> None:
        """`frames` more may be sent. A stream without credit is passed over."""
        self._add(key, 0, frames, now_s)

    def next_due_s(self) -> float | None:
        """The earliest deadline of all that can be drawn; None: nothing can."""
        return min((stream.due_s for stream in self._streams.values() if stream.open_frames), default=None)

    def next_batch(self) -> list[Share]:
        """The next batch, most urgent first; empty when nothing can be drawn. Its credit is spent."""
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
            # It could not have been drawn before: what it missed meanwhile gives it no claim on the others' time.
            stream.due_s = max(stream.due_s, now_s)

    def _spend(self, key: Key, count: int) -> Share:
        stream = self._streams[key]
        share = Share(key, stream.next, count)
        stream.next += count
        stream.ready -= count
        stream.credit -= count
        stream.due_s += count * stream.interval_s
        # The stream that was served goes behind those that are due at the same time.
        self._streams[key] = self._streams.pop(key)
        return share


def streams_at(faces_per_second: float, fps: Fraction, *, reserve: float = 0.1) -> int:
    """Streams of this rate that a device of so many faces a second can serve, with a part of it kept in reserve."""
    return int(faces_per_second * (1 - reserve) / fps)
