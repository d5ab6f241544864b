"""The last of a live stream, so that whoever comes back goes on from where he was and nothing is rendered twice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferedFragment:
    """A fragment of the stream."""

    sequence: int
    start_s: float
    duration_s: float
    key: bool
    data: bytes


class ReplayBuffer:
    """Bounded by bytes and by seconds; the oldest go first. For one event loop."""

    def __init__(self, most_bytes: int = 48 << 20, most_s: float = 120.0) -> None:
        self._most_bytes = most_bytes
        self._most_s = most_s
        self._pieces: deque[BufferedFragment] = deque()
        self._bytes = 0

    def add(self, piece: BufferedFragment) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece.data)
        while len(self._pieces) > 1 and (self._bytes > self._most_bytes or self._seconds() > self._most_s):
            self._bytes -= len(self._pieces.popleft().data)

    def clear(self) -> None:
        self._pieces.clear()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        return self._bytes

    @property
    def last(self) -> int:
        """Sequence of the newest; 0, the head's, while there is none."""
        return self._pieces[-1].sequence if self._pieces else 0

    def after(self, sequence: int) -> BufferedFragment | None:
        """The next one. When it is gone already, the oldest at which a player can begin."""
        if not self._pieces or sequence >= self.last:
            return None
        first = self._pieces[0].sequence
        if sequence + 1 >= first:
            return self._pieces[sequence + 1 - first]
        return next((piece for piece in self._pieces if piece.key), None)

    def begin(self, position_s: float | None) -> tuple[int, float]:
        """(sequence after which a new player begins, where it begins to show).

        With a position that is still here it shows exactly from there and is sent all from the key picture before it;
        without, it begins at the newest key picture.
        """
        keys = [piece for piece in self._pieces if piece.key]
        if not keys:
            return self.last, 0.0
        if position_s is None:
            return keys[-1].sequence - 1, keys[-1].start_s
        key = next((piece for piece in reversed(keys) if piece.start_s <= position_s), keys[0])
        end_s = self._pieces[-1].start_s + self._pieces[-1].duration_s
        return key.sequence - 1, min(max(position_s, key.start_s), end_s)

    def follows(self, sequence: int) -> bool:
        """Whether a player that has all up to this one can go on without a gap."""
        return bool(self._pieces) and self._pieces[0].sequence - 1 <= sequence <= self.last

    def _seconds(self) -> float:
        return self._pieces[-1].start_s - self._pieces[0].start_s
