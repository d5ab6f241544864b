"""Speech features of MuseTalk: per video frame ten steps of Whisper's five hidden states, from sound in pieces.

Whisper's states depend on what comes after them. So a pass hears all of the segment that is there, also what is still
to be accepted: where sound waits, as from a voice that is faster than speech, the features are those of the reference,
which hears the whole sound first. Where it trickles in, the rest of the segment is guessed twice, as silence and as the
last second backwards, and the mean of both is taken (docs/musetalk.md has figures). There is at most one pass for every
PIECE of sound, and a frame waits for `lookahead` pieces. What else differs from the reference:

- the floor of quiet parts does not wait for the loudest: it is at most _RANGE below LOUDEST from the start;
- segments overlap by 10 s, so that a frame after 30 s still knows what was said before it.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch

from warmtalk.core import windows
from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import SPEECH_RATE_HZ, Features, FrameClock, Samples
from warmtalk.models.musetalk.cuda_graph import CudaGraph
from warmtalk.models.musetalk.whisper import SEGMENT_SAMPLES, STATES, STEP_SAMPLES, WIDTH, LogMel, WhisperEncoder

PIECE_SAMPLES = 1280
"""80 ms: how often the encoder listens."""
LOUDEST = 0.5
"""Power (log10) of the loudest mel band in soft speech; at usual levels it is 0.7 to 1.6."""
_STRIDE_SAMPLES = 20 * SPEECH_RATE_HZ
_GUESS_SAMPLES = SPEECH_RATE_HZ
"""So much of the past, backwards, stands for the future."""
TOKENS = windows.WINDOW_STEPS * STATES


class WhisperFeatures:
    """SpeechEncoder: rows of [50, 384] float32, token = step * 5 + state. Thread of the device only.

    On a GPU streams are heard beside what is being drawn: a pass does not wait for the batch before it.
    """

    def __init__(self, encoder: WhisperEncoder, device: torch.device, *, lookahead: int = 2) -> None:
        """`lookahead` counts pieces from the one a frame begins in; 2, the least, is what its window needs."""
        if not 2 <= lookahead <= 50:
            raise InvalidInput(f"lookahead is {lookahead}", "Use 2 to 50 pieces of 80 ms", field="lookahead")
        self._encoder = encoder
        self._mel = LogMel(device)
        self._device = device
        self._passes: dict[int, CudaGraph] = {}
        self._beside = torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
        self.lookahead = lookahead

    def warm_up(self) -> None:
        """Records the passes of a stream and hears silence, so that no first frame waits for it."""
        quiet = np.zeros(0, np.float32)
        self.heard(quiet, np.full((1, windows.WINDOW_STEPS), -1, np.int32), whole=False)
        self.silence(np.zeros((1, windows.WINDOW_STEPS), np.int32))

    def start_stream(self, clock: FrameClock) -> WhisperStream:
        return WhisperStream(self, clock)

    def reference(self, samples: Samples, fps: float) -> Features:
        """[frames, 50, 384] as MuseTalk's scripts give them: whole sound, 30 s segments apart, their windows."""
        return _gather(torch.from_numpy(self.states(samples)), windows.reference(len(samples), fps))

    def log_mel(self, samples: Samples) -> Features:
        """[80, 3000] float32 of at most 30 s, as the reference has it."""
        mel: Features = self._mel(samples).cpu().numpy()
        return mel

    def states(self, samples: Samples) -> Features:
        """[1500 * segments, 5, 384] hidden states of a whole sound in 30 s segments that know nothing of each other."""
        segments = [samples[i : i + SEGMENT_SAMPLES] for i in range(0, max(len(samples), 1), SEGMENT_SAMPLES)]
        parts = [self.encode([segment], loudest=-np.inf).cpu().numpy() for segment in segments]
        states: Features = np.concatenate(parts)
        return states

    def encode(self, sounds: list[Samples], *, loudest: float = LOUDEST) -> torch.Tensor:
        """Mean of the states of sounds of at most 30 s, [1500, 5, 384] float32 on the device."""
        mel = torch.stack([self._mel(sound, loudest=loudest) for sound in sounds])
        run = self._passes.get(len(sounds))
        if run is None:
            run = self._passes[len(sounds)] = CudaGraph(lambda mel: (self._encoder(mel),), (torch.zeros_like(mel),))
        run.inputs[0].copy_(mel)
        (states,) = run()
        return states[0].float().clone() if len(sounds) == 1 else states.float().mean(0)

    def heard(self, sound: Samples, index: windows.IndexMap, *, whole: bool) -> Features:
        """Windows into the states of a segment's sound, [frames, 50, 384]; not `whole`: more will follow it."""
        guesses = [sound] if whole else [sound, np.concatenate([sound, sound[::-1][:_GUESS_SAMPLES]])[:SEGMENT_SAMPLES]]
        with self._beside:
            return _gather(self.encode(guesses), index)

    def silence(self, index: windows.IndexMap) -> Features:
        """Windows into the states of 30 s of silence."""
        with self._beside:
            return _gather(self._silence, index)

    @cached_property
    def _silence(self) -> torch.Tensor:
        return self.encode([np.zeros(0, np.float32)])


class WhisperStream:
    """SpeechStream of one utterance, and LooksAhead. Holds at most 30 s of sound and 30 s of what follows."""

    def __init__(self, features: WhisperFeatures, clock: FrameClock) -> None:
        self._features = features
        self._fps = clock.fps
        self._clock = clock
        self._sound = np.zeros(0, np.float32)
        """From sample `_begin` of the utterance on: what was accepted, then what follows."""
        self._begin = 0
        self._accepted = 0
        """Samples of the utterance."""
        self._ended = False
        """What is in `_sound` is all that there is."""
        self._frames = 0
        """Frames returned so far."""

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        self._sound = np.concatenate([self._sound[: self._accepted - self._begin], samples])
        self._ended = last

    def push_audio(self, samples: Samples) -> Features:
        if self._accepted + len(samples) > self._known:  # else it was looked at already
            self._sound = np.concatenate([self._sound[: self._accepted - self._begin], samples], dtype=np.float32)
        self._accepted += len(samples)
        first, ready = self._frames, self._accepted // PIECE_SAMPLES
        while self._due(self._frames) <= ready:
            self._frames += 1
        return self._rows(first, self._frames, None)

    def finish(self) -> Features:
        first, self._frames = self._frames, self._clock.frames_for(self._accepted, SPEECH_RATE_HZ)
        self._ended = True
        return self._rows(first, self._frames, windows.steps_in(self._accepted))

    def silence_features(self, frame: int) -> Features:
        """[50, 384] of pure silence where this frame lies in its segment."""
        index = self._window(frame) - self._segment(frame) // STEP_SAMPLES
        row: Features = self._features.silence(np.where(self._window(frame) < 0, -1, index)[None])[0]
        return row

    @property
    def _known(self) -> int:
        return self._begin + len(self._sound)

    def _due(self, frame: int) -> int:
        """Pieces that must have come before this frame is drawn."""
        window = windows.end_step(frame, self._fps) * STEP_SAMPLES
        return -(-window // PIECE_SAMPLES) + self._features.lookahead - 2

    def _segment(self, frame: int) -> int:
        """First sample of the segment that this frame is heard in: the earliest that holds all it needs.

        A sound that is known to its end and no longer than 30 s is one segment, as in the reference.
        """
        needed = self._due(frame) * PIECE_SAMPLES
        needed = min(needed, self._known) if self._ended else needed
        return max(0, -(-(needed - SEGMENT_SAMPLES) // _STRIDE_SAMPLES)) * _STRIDE_SAMPLES

    def _window(self, frame: int) -> windows.IndexMap:
        return np.arange(windows.WINDOW_STEPS, dtype=np.int32) + windows.first_step(frame, self._fps)

    def _rows(self, first: int, end: int, steps: int | None) -> Features:
        """Frames [first, end), each segment's in one pass. `steps` is how many the sound has, once that is known."""
        done = [np.zeros((0, TOKENS, WIDTH), np.float32)]
        while first < end:
            segment = self._segment(first)
            until = next((frame for frame in range(first, end) if self._segment(frame) != segment), end)
            start = max(segment, self._begin)
            index = np.stack([self._window(frame) for frame in range(first, until)])
            outside = (index < 0) | (index >= (index.max() + 1 if steps is None else steps))
            stop = min(self._known, start + SEGMENT_SAMPLES)
            whole = self._ended or stop == start + SEGMENT_SAMPLES
            sound = self._sound[start - self._begin : stop - self._begin]
            done.append(self._features.heard(sound, np.where(outside, -1, index - start // STEP_SAMPLES), whole=whole))
            first = until
        self._forget(self._segment(end))
        return np.concatenate(done)

    def _forget(self, before: int) -> None:
        """Drops sound that no later pass hears."""
        if self._begin < before <= self._accepted:
            self._sound = self._sound[before - self._begin :].copy()
            self._begin = before


def _gather(states: torch.Tensor, index: windows.IndexMap) -> Features:
    """[steps, 5, 384] states and [frames, 10] indices to [frames, 50, 384]; zeros where the index is -1."""
    place = torch.from_numpy(index.astype(np.int64)).to(states.device)
    picked = states[place.clamp(min=0)].masked_fill((place < 0)[:, :, None, None], 0)
    rows: Features = picked.reshape(len(index), TOKENS, WIDTH).cpu().numpy()
    return rows
