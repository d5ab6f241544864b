"""Speech features of MuseTalk: ten steps of Whisper's five hidden states for each video frame, from streamed audio.

Whisper's states depend on later audio. An encoder pass therefore processes all audio of the segment so far, also audio
not consumed by the stream yet. Where audio waits, as from a voice faster than speech, the features equal the
reference's, because the reference has the whole audio. Where audio arrives in real time, the rest of the segment is
estimated twice, as silence and as the last second reversed, and the mean of both results is used (docs/musetalk.md has
figures). There is at most one pass for each CHUNK of audio, and a frame waits for `lookahead` chunks. Other differences
from the reference:

- the floor of quiet parts does not wait for the loudest moment of the segment (whisper.LogMel);
- segments overlap by 10 s, to give a frame after 30 s context.
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
from warmtalk.models.musetalk.whisper import SEGMENT_SAMPLES, STATES, STEP_SAMPLES, WIDTH, WhisperEncoder

CHUNK_SAMPLES = 1280
"""Interval of encoder passes: 80 ms."""
_STRIDE_SAMPLES = 20 * SPEECH_RATE_HZ
"""Distance of the starts of two segments."""
_MIRROR_SAMPLES = SPEECH_RATE_HZ
"""Length of the reversed past in the estimate of the future."""
TOKENS = windows.WINDOW_STEPS * STATES


class WhisperFeatures:
    """SpeechEncoder with rows of [50, 384] float32, token = step * 5 + state. Runs on the device thread only.

    On a GPU, passes run on a CUDA stream of their own: a pass does not wait for the batch of faces before it.
    """

    def __init__(self, encoder: WhisperEncoder, *, lookahead: int = 2) -> None:
        """`lookahead` counts chunks from the chunk in which a frame begins; the minimum of 2 completes its window."""
        if not 2 <= lookahead <= 50:
            raise InvalidInput(f"lookahead is {lookahead}", "Use 2 to 50 chunks of 80 ms", field="lookahead")
        self._encoder = encoder
        self._graphs: dict[int, CudaGraph] = {}
        on_cuda = encoder.device.type == "cuda"
        self._side_stream = torch.cuda.stream(torch.cuda.Stream(encoder.device)) if on_cuda else nullcontext()
        self.lookahead = lookahead

    def warm_up(self) -> None:
        """Records the passes of a stream and encodes silence: no first frame waits."""
        no_audio = np.zeros(0, np.float32)
        self.encode_windows(no_audio, np.full((1, windows.WINDOW_STEPS), -1, np.int32), complete=False)
        self.silence_windows(np.zeros((1, windows.WINDOW_STEPS), np.int32))

    def start_stream(self, clock: FrameClock) -> WhisperStream:
        """Returns a stream for one utterance with the frame rate of `clock`."""
        return WhisperStream(self, clock)

    def reference(self, samples: Samples, fps: float) -> Features:
        """Returns [frames, 50, 384] as MuseTalk's scripts compute them: whole audio, separate segments of 30 s."""
        return gather_windows(torch.from_numpy(self.states(samples)), windows.reference(len(samples), fps))

    def log_mel(self, samples: Samples) -> Features:
        """Returns the log-mel [80, 3000] float32 of at most 30 s, as in the reference."""
        mel: Features = self._encoder.log_mel(samples).numpy()
        return mel

    def states(self, samples: Samples) -> Features:
        """Returns the hidden states [1500 * segments, 5, 384] of whole audio, in separate segments of 30 s."""
        segments = [samples[i : i + SEGMENT_SAMPLES] for i in range(0, max(len(samples), 1), SEGMENT_SAMPLES)]
        parts = [self._run(self._encoder.log_mel(segment)[None])[0].float().cpu().numpy() for segment in segments]
        states: Features = np.concatenate(parts)
        return states

    def encode(self, variants: list[Samples]) -> torch.Tensor:
        """Returns the mean of the states of all `variants` of a segment: [1500, 5, 384] float32 on the device.

        Each variant has at most 30 s.
        """
        states = self._run(torch.stack([self._encoder.stream_log_mel(samples) for samples in variants]))
        return states[0].float().clone() if len(variants) == 1 else states.float().mean(0)

    def encode_windows(self, audio: Samples, index: windows.IndexMap, *, complete: bool) -> Features:
        """Returns windows [frames, 50, 384] of the states of a segment.

        `complete` is False when more audio of the segment will follow: then the future is estimated.
        """
        variants = [audio]
        if not complete:
            variants.append(np.concatenate([audio, audio[::-1][:_MIRROR_SAMPLES]])[:SEGMENT_SAMPLES])
        with self._side_stream:
            return gather_windows(self.encode(variants), index)

    def silence_windows(self, index: windows.IndexMap) -> Features:
        """Returns windows [frames, 50, 384] of the states of 30 s of silence."""
        with self._side_stream:
            return gather_windows(self._silence, index)

    @cached_property
    def _silence(self) -> torch.Tensor:
        return self.encode([np.zeros(0, np.float32)])

    def _run(self, mel: torch.Tensor) -> torch.Tensor:
        """Returns the states of log-mel [B, 80, 3000]; the next pass of the same B overwrites the result."""
        graph = self._graphs.get(len(mel))
        if graph is None:
            inputs = torch.zeros_like(mel, device=self._encoder.device)
            graph = self._graphs[len(mel)] = CudaGraph(lambda mel: (self._encoder(mel),), (inputs,))
        graph.inputs[0].copy_(mel)
        (states,) = graph()
        return states


class WhisperStream:
    """SpeechStream of one utterance, also a LookaheadStream. Holds at most 30 s of consumed and 30 s of later audio."""

    def __init__(self, features: WhisperFeatures, clock: FrameClock) -> None:
        self._features = features
        self._fps = clock.fps
        self._clock = clock
        self._audio = np.zeros(0, np.float32)
        """Samples of the utterance from `_start` on: consumed samples, then samples shown by `look_ahead`."""
        self._start = 0
        self._consumed = 0
        """Samples of the utterance consumed so far."""
        self._complete = False
        """True when no audio follows `_audio`."""
        self._frames = 0
        """Frames returned so far."""

    def look_ahead(self, samples: Samples, *, last: bool) -> None:
        self._audio = np.concatenate([self._audio[: self._consumed - self._start], samples])
        self._complete = last

    def push_audio(self, samples: Samples) -> Features:
        if self._consumed + len(samples) > self._known:  # otherwise look_ahead has shown these samples
            self._audio = np.concatenate([self._audio[: self._consumed - self._start], samples], dtype=np.float32)
        self._consumed += len(samples)
        first, chunks = self._frames, self._consumed // CHUNK_SAMPLES
        while self._required_chunks(self._frames) <= chunks:
            self._frames += 1
        return self._rows(first, self._frames, None)

    def finish(self) -> Features:
        first, self._frames = self._frames, self._clock.frames_for(self._consumed, SPEECH_RATE_HZ)
        self._complete = True
        return self._rows(first, self._frames, windows.steps_in(self._consumed))

    def silence_features(self, frame: int) -> Features:
        """Returns [50, 384] of silence at the position of this frame in its segment."""
        index = self._window(frame) - self._segment(frame) // STEP_SAMPLES
        row: Features = self._features.silence_windows(np.where(self._window(frame) < 0, -1, index)[None])[0]
        return row

    @property
    def _known(self) -> int:
        """Samples of the utterance so far, consumed or not."""
        return self._start + len(self._audio)

    def _required_chunks(self, frame: int) -> int:
        """Returns how many chunks must be consumed before this frame is returned."""
        window_end = windows.end_step(frame, self._fps) * STEP_SAMPLES
        return -(-window_end // CHUNK_SAMPLES) + self._features.lookahead - 2

    def _segment(self, frame: int) -> int:
        """Returns the first sample of the segment of this frame: the earliest segment with all required audio.

        Complete audio of at most 30 s is one segment, as in the reference.
        """
        needed = self._required_chunks(frame) * CHUNK_SAMPLES
        needed = min(needed, self._known) if self._complete else needed
        return max(0, -(-(needed - SEGMENT_SAMPLES) // _STRIDE_SAMPLES)) * _STRIDE_SAMPLES

    def _window(self, frame: int) -> windows.IndexMap:
        return np.arange(windows.WINDOW_STEPS, dtype=np.int32) + windows.first_step(frame, self._fps)

    def _rows(self, first: int, end: int, steps: int | None) -> Features:
        """Returns the rows of frames [first, end), with one pass for each segment.

        `steps` is the number of steps of the whole audio, None while unknown.
        """
        rows = [np.zeros((0, TOKENS, WIDTH), np.float32)]
        while first < end:
            segment = self._segment(first)
            until = next((frame for frame in range(first, end) if self._segment(frame) != segment), end)
            start = max(segment, self._start)
            index = np.stack([self._window(frame) for frame in range(first, until)])
            outside = (index < 0) | (index >= (index.max() + 1 if steps is None else steps))
            stop = min(self._known, start + SEGMENT_SAMPLES)
            complete = self._complete or stop == start + SEGMENT_SAMPLES
            audio = self._audio[start - self._start : stop - self._start]
            in_segment = np.where(outside, -1, index - start // STEP_SAMPLES)
            rows.append(self._features.encode_windows(audio, in_segment, complete=complete))
            first = until
        self._drop_before(self._segment(end))
        return np.concatenate(rows)

    def _drop_before(self, sample: int) -> None:
        """Drops audio without use in later passes."""
        if self._start < sample <= self._consumed:
            self._audio = self._audio[sample - self._start :].copy()
            self._start = sample


def gather_windows(states: torch.Tensor, index: windows.IndexMap) -> Features:
    """Returns [frames, 50, 384] for states [steps, 5, 384] and indices [frames, 10]; zeros where the index is -1."""
    steps = torch.from_numpy(index.astype(np.int64)).to(states.device)
    picked = states[steps.clamp(min=0)].masked_fill((steps < 0)[:, :, None, None], 0)
    rows: Features = picked.reshape(len(index), TOKENS, WIDTH).cpu().numpy()
    return rows
