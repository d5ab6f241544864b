"""Buffer of one utterance between incoming audio and rendered frames. No threads, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from warmtalk.core.ports import AHEAD_SAMPLES, LookaheadStream, SpeechStream
from warmtalk.core.types import SPEECH_RATE_HZ, Features, Samples

_SLICE_SAMPLES = SPEECH_RATE_HZ // 2
"""Most audio encoded in one turn; other utterances are served between the turns."""
_MAX_READY_FRAMES = 64
"""Encoding pauses while so many frames wait to be rendered: features of MuseTalk take 77 KB a frame."""


@dataclass(slots=True)
class UtteranceBuffer:
    """Queue of audio and of encoded features. Audio is encoded shortly before its frames are rendered, because waiting
    audio is small and waiting features are not. Frames are taken only within the credit.

    Not thread-safe: the engine holds its lock for every method but `encode`, which only the render thread calls.
    """

    encoder_stream: SpeechStream
    start_index: int
    """Position of frame 0 in the forth-and-back cycle of the avatar."""
    credit: int
    """Frames that may still be sent to the client."""
    pending_audio: deque[Samples] = field(default_factory=deque)
    """Audio not encoded yet."""
    pending_samples: int = 0
    """Number of samples in `pending_audio`."""
    ended: bool = False
    """Set when no more audio will arrive."""
    aborted: bool = False
    """Set when the remaining frames are not wanted."""
    frames_taken: int = 0
    """Frames taken so far."""
    _ready: deque[Features] = field(default_factory=deque)
    _ready_frames: int = 0
    _encoder_finished: bool = False

    def push_audio(self, samples: Samples) -> None:
        """Appends 16 kHz samples."""
        self.pending_audio.append(samples)
        self.pending_samples += len(samples)

    @property
    def needs_encoding(self) -> bool:
        """True when there is audio to encode or a stream to finish now."""
        if self.aborted or self.done:
            return True
        waiting = self.pending_audio or (self.ended and not self._encoder_finished)
        return bool(waiting) and self._ready_frames < _MAX_READY_FRAMES

    @property
    def ready_frames(self) -> int:
        """Frames that are encoded and not taken."""
        return self._ready_frames

    @property
    def done(self) -> bool:
        """True when every frame has been taken, or the utterance is aborted."""
        return self.aborted or (self._encoder_finished and not self._ready_frames)

    def take_audio(self) -> tuple[list[Samples], bool]:
        """Removes up to half a second of pending audio. Returns the chunks, and whether they end the utterance.

        An encoder with lookahead is shown all pending audio first.
        """
        if isinstance(self.encoder_stream, LookaheadStream):
            ahead = np.concatenate([np.zeros(0, np.float32), *_first_samples(self.pending_audio, AHEAD_SAMPLES)])
            self.encoder_stream.look_ahead(ahead, last=self.ended and len(ahead) == self.pending_samples)
        taken: list[Samples] = []
        remaining = _SLICE_SAMPLES
        while self.pending_audio and remaining:
            chunk = self.pending_audio.popleft()
            taken.append(chunk[:remaining])
            if len(chunk) > remaining:
                self.pending_audio.appendleft(chunk[remaining:])
            remaining -= len(taken[-1])
            self.pending_samples -= len(taken[-1])
        return taken, self.ended and not self.pending_audio

    def encode(self, chunks: list[Samples], last: bool) -> list[Features]:
        """Encodes the result of `take_audio`. Changes the encoder stream alone and needs no lock."""
        encoded = [self.encoder_stream.push_audio(np.concatenate(chunks))] if chunks else []
        if last and not self._encoder_finished:
            encoded.append(self.encoder_stream.finish())
        return encoded

    def add_features(self, encoded: list[Features], last: bool) -> None:
        """Appends the result of `encode`. Calls come in the order of the audio."""
        self._ready.extend(features for features in encoded if len(features))
        self._ready_frames += sum(len(features) for features in encoded)
        self._encoder_finished = self._encoder_finished or last

    def take_frames(self, count: int) -> tuple[int, Features]:
        """Removes the next `count` frames, which must be ready and within the credit.

        Returns the number of the first frame and the [count, ...] features.
        """
        assert 0 < count <= min(self.credit, self._ready_frames)
        parts: list[Features] = []
        remaining = count
        while remaining:
            features = self._ready.popleft()
            parts.append(features[:remaining])
            if len(features) > remaining:
                self._ready.appendleft(features[remaining:])
            remaining -= len(parts[-1])
        first = self.frames_taken
        self.frames_taken += count
        self.credit -= count
        self._ready_frames -= count
        return first, np.concatenate(parts)


def _first_samples(chunks: Iterable[Samples], count: int) -> Iterator[Samples]:
    """Yields the first `count` samples of the chunks."""
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return
