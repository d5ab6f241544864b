"""Speech features of MuseTalk: per video frame ten steps of Whisper's five hidden states, from sound in pieces.

Every PIECE of sound the encoder hears the segment so far, followed by zeros to 30 s as in the reference, and gives the
windows that are complete now. Passes lie on an absolute grid, so the features do not depend on how the sound was cut.
Against the reference, which hears the whole sound first, three things differ:

- what comes later is not heard yet. `lookahead` pieces more bring the features nearer (docs/musetalk.md has figures);
- the floor of quiet parts does not wait for the loudest: it is at most _RANGE below LOUDEST from the start;
- segments overlap by 10 s, so that a frame after 30 s still knows what was said before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from warmtalk.core import windows
from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples
from warmtalk.models.whisper import SEGMENT_SAMPLES, STATES, STEP_SAMPLES, WIDTH, LogMel, WhisperEncoder

PIECE_SAMPLES = 1280
"""80 ms: how often the encoder listens."""
LOUDEST = 1.5
"""Power (log10) of the loudest mel band in speech at the usual level."""
_STRIDE_SAMPLES = 20 * SPEECH_RATE_HZ
_BATCH_CUDA = 8
"""Passes at once when much sound comes at once. On a CPU one by one, so that the batch leaves no trace."""
TOKENS = windows.WINDOW_STEPS * STATES


@dataclass(frozen=True, slots=True)
class _Pass:
    """One run of the encoder: frames [first, end) from the sound [start, stop)."""

    first: int
    end: int
    start: int
    stop: int


class WhisperFeatures:
    """SpeechEncoder: rows of [50, 384] float32, token = step * 5 + state. Thread of the device only."""

    def __init__(self, encoder: WhisperEncoder, device: torch.device, *, lookahead: int = 2) -> None:
        """`lookahead` counts pieces from the one a frame begins in; 2, the least, is what its window needs."""
        if not 2 <= lookahead <= 50:
            raise InvalidInput(f"lookahead is {lookahead}", "Use 2 to 50 pieces of 80 ms", field="lookahead")
        self._encoder = encoder
        self._mel = LogMel(device)
        self.lookahead = lookahead
        self.batch = _BATCH_CUDA if device.type == "cuda" else 1

    def start_stream(self, clock: FrameClock) -> WhisperStream:
        return WhisperStream(self, clock)

    def reference(self, samples: Samples, fps: float) -> Features:
        """[frames, 50, 384] as MuseTalk's scripts give them: whole sound, 30 s segments apart, their windows."""
        states = self.states(samples)
        return _gather(states, windows.reference(len(samples), fps))

    def log_mel(self, samples: Samples) -> Features:
        """[80, 3000] float32 of at most 30 s, as the reference has it."""
        mel: Features = self._mel(samples).cpu().numpy()
        return mel

    def states(self, samples: Samples) -> Features:
        """[1500 * segments, 5, 384] hidden states of a whole sound in 30 s segments that know nothing of each other."""
        segments = [samples[i : i + SEGMENT_SAMPLES] for i in range(0, max(len(samples), 1), SEGMENT_SAMPLES)]
        return np.concatenate([self.encode([segment], loudest=-np.inf)[0] for segment in segments])

    def encode(self, sounds: list[Samples], *, loudest: float = LOUDEST) -> Features:
        """Sounds of at most 30 s to [n, 1500, 5, 384] float32."""
        mel = torch.stack([self._mel(sound, loudest=loudest) for sound in sounds])
        states: Features = self._encoder(mel).float().cpu().numpy()
        return states


class WhisperStream:
    """SpeechStream of one utterance. Holds at most 30 s of sound."""

    def __init__(self, features: WhisperFeatures, clock: FrameClock) -> None:
        self._features = features
        self._fps = clock.fps
        self._clock = clock
        self._sound = np.zeros(0, np.float32)
        self._begin = 0
        """Sample of the utterance that `_sound` begins with."""
        self._listened = 0
        """Samples of the last pass."""
        self._frames = 0
        """Frames returned so far."""

    def accept(self, samples: Samples) -> Features:
        self._sound = np.concatenate([self._sound, np.asarray(samples, np.float32)])
        return self._run(list(self._passes()), None)

    def finish(self) -> Features:
        heard = self._begin + len(self._sound)
        frames = self._clock.frames_for(heard, SPEECH_RATE_HZ)
        passes = [_Pass(self._frames, frames, _segment_start(heard), heard)] if frames > self._frames else []
        return self._run(passes, windows.steps_in(heard))

    def _passes(self) -> Iterator[_Pass]:
        heard = self._begin + len(self._sound)
        while self._listened + PIECE_SAMPLES <= heard:
            self._listened += PIECE_SAMPLES
            ready = (self._listened - (self._features.lookahead - 2) * PIECE_SAMPLES) // STEP_SAMPLES
            first = self._frames
            while windows.end_step(self._frames, self._fps) <= ready:
                self._frames += 1
            if self._frames > first:
                yield _Pass(first, self._frames, _segment_start(self._listened), self._listened)

    def _run(self, passes: list[_Pass], steps: int | None) -> Features:
        """`steps` is how many steps the sound has, once that is known."""
        done = [
            self._window(one, states, steps)
            for i in range(0, len(passes), self._features.batch)
            for one, states in self._heard(passes[i : i + self._features.batch])
        ]
        self._forget(_segment_start(self._listened))
        return np.concatenate([np.zeros((0, TOKENS, WIDTH), np.float32), *done])

    def _heard(self, passes: list[_Pass]) -> Iterator[tuple[_Pass, Features]]:
        sounds = [self._sound[one.start - self._begin : one.stop - self._begin] for one in passes]
        yield from zip(passes, self._features.encode(sounds), strict=True)

    def _window(self, one: _Pass, states: Features, steps: int | None) -> Features:
        first = np.array([windows.first_step(frame, self._fps) for frame in range(one.first, one.end)])
        index = first[:, None] + np.arange(windows.WINDOW_STEPS)
        outside = (index < 0) | (index >= (index.max() + 1 if steps is None else steps))
        return _gather(states, np.where(outside, -1, index - one.start // STEP_SAMPLES))

    def _forget(self, before: int) -> None:
        """Drops sound that no later pass hears."""
        if before > self._begin:
            self._sound = self._sound[before - self._begin :].copy()
            self._begin = before


def _segment_start(stop: int) -> int:
    """Start of the segment that a pass ending at sample `stop` hears: the earliest that is at most 30 s before it."""
    return max(0, -(-(stop - SEGMENT_SAMPLES) // _STRIDE_SAMPLES)) * _STRIDE_SAMPLES


def _gather(states: Features, index: windows.IndexMap) -> Features:
    """[steps, 5, 384] states and [frames, 10] indices to [frames, 50, 384]; zeros where the index is -1."""
    picked = np.where((index < 0)[:, :, None, None], np.float32(0), states[np.maximum(index, 0)])
    return picked.reshape(len(index), TOKENS, WIDTH)
