"""The last of a live stream, so that whoever comes back goes on from where he was and nothing is rendered twice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_CLOSE_S = 0.06
"""How far a player's position may be from a fragment's start and still mean it: sound ends up to 50 ms earlier."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A fragment of the stream."""

    sequence: int
    start_s: float
    duration_s: float
    key: bool
    data: bytes


class Ring:
    """Bounded by bytes and by seconds; the oldest go first. For one event loop."""

    def __init__(self, most_bytes: int = 48 << 20, most_s: float = 120.0) -> None:
        self._most_bytes = most_bytes
        self._most_s = most_s
        self._pieces: deque[Piece] = deque()
        self._bytes = 0

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece.data)
        while len(self._pieces) > 1 and (self._bytes > self._most_bytes or self._seconds() > self._most_s):
            self._bytes -= len(self._pieces.popleft().data)

    @property
    def last(self) -> int:
        """Sequence of the newest; 0, the head's, while there is none."""
        return self._pieces[-1].sequence if self._pieces else 0

    def after(self, sequence: int) -> Piece | None:
        """The next one. When it is gone already, the oldest at which a player can begin."""
        if not self._pieces or sequence >= self.last:
            return None
        first = self._pieces[0].sequence
        if sequence + 1 >= first:
            return self._pieces[sequence + 1 - first]
        return next((piece for piece in self._pieces if piece.key), None)

    def begin(self, position_s: float | None) -> int:
        """Sequence after which a new player begins: at the key picture at or before its position, or at the newest."""
        keys = [piece for piece in self._pieces if piece.key]
        if not keys:
            return self.last
        if position_s is not None:
            keys = [piece for piece in keys if piece.start_s <= position_s + _CLOSE_S] or keys[:1]
        return keys[-1].sequence - 1

    def resume(self, position_s: float) -> int | None:
        """Sequence after which a player that has all up to `position_s` goes on; None when that is gone."""
        if not self._pieces or position_s < self._pieces[0].start_s - _CLOSE_S:
            return None
        for piece in self._pieces:
            if piece.start_s >= position_s - _CLOSE_S:
                return piece.sequence - 1
        end_s = self._pieces[-1].start_s + self._pieces[-1].duration_s
        return self.last if position_s <= end_s + _CLOSE_S else None

    def _seconds(self) -> float:
        return self._pieces[-1].start_s - self._pieces[0].start_s
