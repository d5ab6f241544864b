"""Sound in pieces to one mouth row per video frame, whatever reads the mouth from what is heard."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, MOUTH_FEATURES
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples
from warmtalk.models.mouth.audio_features import HOP, WINDOW, Floats, LogMelExtractor, MelFrame

LOOKAHEAD = 16
"""Rows of future that a reader hears before it answers: with the window and the step between two rows
at most 186 ms after the middle of a frame."""


class MouthReader(Protocol):
    """One utterance. Owns its state."""

    def read(self, row: MelFrame) -> Floats:
        """[MOUTH_FEATURES] float32: the mouth LOOKAHEAD rows before this one."""
        ...


class MouthStream:
    """A SpeechStream of mouth rows [frames, 4]. A frame shows the mouth at its middle."""

    def __init__(self, clock: FrameClock, reader: MouthReader) -> None:
        self._clock = clock
        self._reader = reader
        self._ear = LogMelExtractor()
        self._samples = 0
        self._frame = 0
        self._track: deque[Floats] = deque()
        self._track_start = -LOOKAHEAD

    def push_audio(self, samples: Samples) -> Features:
        """Takes the next 16 kHz samples, any number; returns the frames whose lookahead is now complete."""
        self._samples += len(samples)
        self._hear(samples)
        return _stack(self._ready_frames())

    def finish(self) -> Features:
        """The rest, as if silence followed. Call once."""
        frames = self._clock.frames_for(self._samples, SPEECH_RATE_HZ)
        if self._frame >= frames:
            return _stack([])
        last_row = int(self._middle_row(frames - 1)) + 1
        needed = (last_row + LOOKAHEAD) * HOP + WINDOW // 2
        self._hear(np.zeros(max(0, needed - self._samples), np.float32))
        missing = frames - self._frame
        return _stack(self._ready_frames()[:missing])

    def _hear(self, samples: Samples) -> None:
        self._track.extend(self._reader.read(row) for row in self._ear.accept(samples))

    def _ready_frames(self) -> list[Floats]:
        ready = []
        while (shape := self._shape_at(self._middle_row(self._frame))) is not None:
            ready.append(shape)
            self._frame += 1
        return ready

    def _middle_row(self, frame: int) -> float:
        edges = (self._clock.samples_at(k, SPEECH_RATE_HZ) for k in (frame, frame + 1))
        return sum(edges) / (2 * HOP)

    def _shape_at(self, row: float) -> Floats | None:
        """The track between two rows; None while they are not both there. Forgets what lies before."""
        whole = int(row)
        while self._track and self._track_start < whole:
            self._track.popleft()
            self._track_start += 1
        if self._track_start != whole or len(self._track) < 2:
            return None
        share = np.float32(row - whole)
        return np.clip(self._track[0] * (1 - share) + self._track[1] * share, MIN_SHAPE, MAX_SHAPE)  # rounding


def _stack(rows: list[Floats]) -> Features:
    return np.array(rows, np.float32).reshape(len(rows), MOUTH_FEATURES)
