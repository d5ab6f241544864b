"""One utterance on its way through the engine: what was heard, what may be drawn, what is next. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from warmtalk.core.ports import AHEAD_SAMPLES, LookaheadStream, SpeechStream
from warmtalk.core.types import SPEECH_RATE_HZ, Features, Samples

_SLICE_SAMPLES = SPEECH_RATE_HZ // 2
"""Heard at once, however much waits: others are served between."""
_MOST_READY = 64
"""Frames that wait to be drawn before no more sound is heard: MuseTalk's features are 77 KB a frame."""


@dataclass(slots=True)
class UtteranceBuffer:
    """Not thread-safe: the engine guards it with its lock, except `hear`, which only the render thread calls.

    Sound is heard shortly before it is drawn, and drawn only with credit: what waits is sound, which is small.
    """

    hearing: SpeechStream
    start_index: int
    credit: int
    """Frames that may still be sent."""
    pending: deque[Samples] = field(default_factory=deque)
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
    def hearable(self) -> bool:
        """There is something to hear or to finish now."""
        if self.aborted or self.done:
            return True
        waiting = self.pending or (self.ended and not self._finished_hearing)
        return bool(waiting) and self._ready_frames < _MOST_READY

    @property
    def ready(self) -> int:
        """Frames that were heard and not taken."""
        return self._ready_frames

    @property
    def done(self) -> bool:
        """Every frame was taken, or nobody wants the rest."""
        return self.aborted or (self._finished_hearing and not self._ready_frames)

    def take_sound(self) -> tuple[list[Samples], bool]:
        """What was not heard yet, half a second of it at most, and whether it is the last.

        An encoder that looks ahead is shown what waits behind it.
        """
        if isinstance(self.hearing, LookaheadStream):
            ahead = np.concatenate([np.zeros(0, np.float32), *_first(self.pending, AHEAD_SAMPLES)])
            self.hearing.look_ahead(ahead, last=self.ended and len(ahead) == self.pending_samples)
        taken: list[Samples] = []
        left = _SLICE_SAMPLES
        while self.pending and left:
            piece = self.pending.popleft()
            taken.append(piece[:left])
            if len(piece) > left:
                self.pending.appendleft(piece[left:])
            left -= len(taken[-1])
            self.pending_samples -= len(taken[-1])
        return taken, self.ended and not self.pending

    def hear(self, pieces: list[Samples], last: bool) -> list[Features]:
        """Encodes without touching the rest of the state, so that it needs no lock."""
        heard = [self.hearing.accept(np.concatenate(pieces))] if pieces else []
        if last and not self._finished_hearing:
            heard.append(self.hearing.finish())
        return heard

    def put(self, heard: list[Features], last: bool) -> None:
        """What `hear` returned, in the same order."""
        self._ready.extend(features for features in heard if len(features))
        self._ready_frames += sum(len(features) for features in heard)
        self._finished_hearing = self._finished_hearing or last

    def take_frames(self, most: int) -> tuple[int, Features]:
        """(first frame, features) of the next `most` frames, which are ready and within the credit."""
        assert 0 < most <= min(self.credit, self._ready_frames)
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


def _first(pieces: Iterable[Samples], most: int) -> Iterator[Samples]:
    """The first `most` samples."""
    for piece in pieces:
        yield piece[:most]
        most -= len(piece)
        if most <= 0:
            return
