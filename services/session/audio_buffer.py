"""Sliding window over the 16 kHz audio of one utterance."""

from __future__ import annotations

import numpy as np

from warmtalk.core.types import Samples


class AudioBuffer:
    """Audio appended at the end and discarded at the front. Not thread-safe.

    Positions are samples from the start of the utterance.
    """

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._start = 0

    @property
    def start(self) -> int:
        """Position of the first sample held."""
        return self._start

    @property
    def end(self) -> int:
        """Position after the last sample."""
        return self._start + len(self._samples)

    def append(self, samples: Samples) -> None:
        """Appends `samples` at `end`."""
        self._samples = np.concatenate([self._samples, samples])

    def read(self, position: int, max_samples: int) -> Samples:
        """Returns up to `max_samples` samples from `position`, which is at least `start`; empty at the end."""
        offset = position - self._start
        return self._samples[offset : offset + max_samples]

    def discard_before(self, position: int) -> None:
        """Drops the samples before `position` and frees the memory."""
        position = min(max(position, self._start), self.end)
        self._samples = self._samples[position - self._start :].copy()
        self._start = position

    def clear(self) -> None:
        """Drops all samples."""
        self.discard_before(self.end)
