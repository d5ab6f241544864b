"""Replay buffer of the latest fragments, so that a reconnecting viewer resumes without re-rendering."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferedFragment:
    """An MP4 fragment of the stream. Times in seconds of the stream."""

    sequence: int
    start_s: float
    duration_s: float
    key_frame: bool
    """True if the fragment begins with a key frame, where a decoder can start."""
    data: bytes


class ReplayBuffer:
    """Bounded by bytes and by seconds; the oldest fragments are dropped first. For one event loop."""

    def __init__(self, max_bytes: int = 48 << 20, max_s: float = 120.0) -> None:
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._fragments: deque[BufferedFragment] = deque()
        self._bytes = 0

    def append(self, fragment: BufferedFragment) -> None:
        """Appends the next fragment; sequences must be consecutive. The newest fragment always stays."""
        self._fragments.append(fragment)
        self._bytes += len(fragment.data)
        while len(self._fragments) > 1 and (self._bytes > self._max_bytes or self._span_s() > self._max_s):
            self._bytes -= len(self._fragments.popleft().data)

    def clear(self) -> None:
        """Drops all fragments."""
        self._fragments.clear()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Size of the buffered fragments."""
        return self._bytes

    @property
    def last_sequence(self) -> int:
        """Sequence of the newest fragment; 0, the sequence of the initialization segment, while the buffer is empty."""
        return self._fragments[-1].sequence if self._fragments else 0

    def next_after(self, sequence: int) -> BufferedFragment | None:
        """Returns the fragment after `sequence`, or None if `sequence` is the newest.

        If that fragment was dropped, returns the oldest fragment with a key frame instead.
        """
        if not self._fragments or sequence >= self.last_sequence:
            return None
        first = self._fragments[0].sequence
        if sequence + 1 >= first:
            return self._fragments[sequence + 1 - first]
        return next((fragment for fragment in self._fragments if fragment.key_frame), None)

    def start_point(self, position_s: float | None) -> tuple[int, float]:
        """Returns (sequence after which a new viewer starts, stream second from which the viewer shows video).

        With a position in the buffer, the viewer gets the fragments from the key frame before the position and shows
        video from exactly the position. Without a position, the viewer starts at the newest key frame.
        """
        keys = [fragment for fragment in self._fragments if fragment.key_frame]
        if not keys:
            return self.last_sequence, 0.0
        if position_s is None:
            return keys[-1].sequence - 1, keys[-1].start_s
        key = next((fragment for fragment in reversed(keys) if fragment.start_s <= position_s), keys[0])
        end_s = self._fragments[-1].start_s + self._fragments[-1].duration_s
        return key.sequence - 1, min(max(position_s, key.start_s), end_s)

    def can_resume_after(self, sequence: int) -> bool:
        """Returns True if a viewer with all fragments up to `sequence` can continue without a gap."""
        return bool(self._fragments) and self._fragments[0].sequence - 1 <= sequence <= self.last_sequence

    def _span_s(self) -> float:
        return self._fragments[-1].start_s - self._fragments[0].start_s
