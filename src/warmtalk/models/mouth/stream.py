"""Conversion of audio chunks to one features row per video frame, for any predictor of the mouth shape."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, MOUTH_FEATURES
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples
from warmtalk.models.mouth.audio_features import HOP, WINDOW, Floats, LogMelExtractor, MelFrame

LOOKAHEAD = 16
"""Rows between the input of a predictor and the row of the output. With the window and the distance of two rows, a
frame depends on audio at most 186 ms after the middle of the frame."""


class MouthPredictor(Protocol):
    """Predicts mouth shapes of one utterance and owns the state of that utterance."""

    def push_row(self, row: MelFrame) -> Floats:
        """Returns [MOUTH_FEATURES] float32: the mouth shape LOOKAHEAD rows before `row`."""
        ...


class MouthStream:
    """Implementation of core.ports.SpeechStream with rows [frames, 4]. A frame shows the mouth in the middle of its
    interval."""

    def __init__(self, clock: FrameClock, predictor: MouthPredictor) -> None:
        self._clock = clock
        self._predictor = predictor
        self._mel = LogMelExtractor()
        self._samples = 0
        self._frame = 0
        self._track: deque[Floats] = deque()
        self._track_start = -LOOKAHEAD

    def push_audio(self, samples: Samples) -> Features:
        """Takes the next 16 kHz samples, any number. Returns the frames whose lookahead is now complete."""
        self._samples += len(samples)
        self._predict(samples)
        return _stack(self._ready_frames())

    def finish(self) -> Features:
        """Returns the remaining frames, computed with silence after the last sample. Call once."""
        frames = self._clock.frames_for(self._samples, SPEECH_RATE_HZ)
        if self._frame >= frames:
            return _stack([])
        last_row = int(self._middle_row(frames - 1)) + 1
        needed = (last_row + LOOKAHEAD) * HOP + WINDOW // 2
        self._predict(np.zeros(max(0, needed - self._samples), np.float32))
        missing = frames - self._frame
        return _stack(self._ready_frames()[:missing])

    def _predict(self, samples: Samples) -> None:
        self._track.extend(self._predictor.push_row(row) for row in self._mel.push_audio(samples))

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
        """Interpolates the track between two rows and drops earlier rows. Returns None until both rows exist."""
        whole = int(row)
        while self._track and self._track_start < whole:
            self._track.popleft()
            self._track_start += 1
        if self._track_start != whole or len(self._track) < 2:
            return None
        share = np.float32(row - whole)
        # Rounding may exceed the range by the last bit.
        return np.clip(self._track[0] * (1 - share) + self._track[1] * share, MIN_SHAPE, MAX_SHAPE)


def _stack(rows: list[Floats]) -> Features:
    return np.array(rows, np.float32).reshape(len(rows), MOUTH_FEATURES)
