"""One utterance on its way through the engine: what was heard, what may be drawn, what is next. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from warmtalk.core.ports import SpeechStream
from warmtalk.core.types import Features, Samples


@dataclass(slots=True)
class Utterance:
    """Not thread-safe: the engine guards it with its lock, except `hear`, which only the render thread calls.

    Sound is heard as it comes, drawn only with credit: what waits in between is features, which are small.
    """

    hearing: SpeechStream
    start_index: int
    batch_frames: int
    credit: int
    """Frames that may still be sent."""
    pending: list[Samples] = field(default_factory=list)
    """Sound not heard yet."""
    pending_samples: int = 0
    ended: bool = False
    """No more sound will come."""
    aborted: bool = False
    drawn: int = 0
    """Frames taken so far."""
    _ready: deque[Features] = field(default_factory=deque)
    _ready_frames: int = 0
    _finished_hearing: bool = False

    def push(self, samples: Samples) -> None:
        self.pending.append(samples)
        self.pending_samples += len(samples)

    @property
    def runnable(self) -> bool:
        """There is something to hear, to draw or to finish now."""
        if self.aborted or self.pending or self.done:
            return True
        return (self.ended and not self._finished_hearing) or (self._ready_frames > 0 and self.credit > 0)

    @property
    def done(self) -> bool:
        """Every frame was taken, or nobody wants the rest."""
        return self.aborted or (self._finished_hearing and not self._ready_frames)

    def take_sound(self) -> tuple[list[Samples], bool]:
        """Everything not heard yet, and whether it is the last."""
        pieces, self.pending, self.pending_samples = self.pending, [], 0
        return pieces, self.ended

    def hear(self, pieces: list[Samples], last: bool) -> list[Features]:
        """Encodes without touching the rest of the state, so that it needs no lock."""
        heard = [self.hearing.accept(piece) for piece in pieces]
        if last and not self._finished_hearing:
            heard.append(self.hearing.finish())
        return heard

    def put(self, heard: list[Features], last: bool) -> None:
        """What `hear` returned, in the same order."""
        self._ready.extend(features for features in heard if len(features))
        self._ready_frames += sum(len(features) for features in heard)
        self._finished_hearing = self._finished_hearing or last

    def take_frames(self) -> tuple[int, Features] | None:
        """(first frame, features) of the next batch within the credit; the first batch is one frame, to be early."""
        most = min(self.batch_frames if self.drawn else 1, self.credit, self._ready_frames)
        if self.aborted or most <= 0:
            return None
        parts: list[Features] = []
        left = most
        while left:
            features = self._ready.popleft()
            parts.append(features[:left])
            if len(features) > left:
                self._ready.appendleft(features[left:])
            left -= len(parts[-1])
        first = self.drawn
        self.drawn += most
        self.credit -= most
        self._ready_frames -= most
        return first, np.concatenate(parts)
