"""Frames of a speech segment that were rendered and not shown: patches and the playback audio."""

from __future__ import annotations

from collections import deque

import numpy as np

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Patch, Samples


class FrameBuffer:
    """Patches and 48 kHz audio, which arrive separately and leave in pairs. Not thread-safe."""

    def __init__(self, clock: FrameClock) -> None:
        self.clock = clock
        """Frame clock of the patches."""
        self.shown = 0
        """Frames taken by the present clock."""
        self._patches: deque[Patch] = deque()
        self._audio: Samples = np.zeros(0, np.float32)

    @property
    def waiting_frames(self) -> int:
        """Number of patches that wait."""
        return len(self._patches)

    @property
    def audio_ahead_s(self) -> float:
        """Seconds of audio without a patch."""
        waiting_s = len(self._patches) / self.clock.fps
        return float(len(self._audio) / CLIP_RATE_HZ - waiting_s)

    def push_audio(self, samples: Samples) -> None:
        """Appends 48 kHz audio."""
        self._audio = np.concatenate([self._audio, samples])

    def push_patches(self, patches: list[Patch]) -> None:
        """Appends patches of consecutive frames."""
        self._patches.extend(patches)

    def take_frame(self) -> tuple[Patch, Samples]:
        """Removes the first patch and the audio of one frame, padded with silence. Only with a patch."""
        patch = self._patches.popleft()
        start, end = (self.clock.samples_at(self.shown + k, CLIP_RATE_HZ) for k in (0, 1))
        audio, self._audio = self._audio[: end - start], self._audio[end - start :]
        self.shown += 1
        return patch, np.pad(audio, (0, end - start - len(audio)))

    def change_clock(self, clock: FrameClock) -> None:
        """Drops the patches; the audio continues by `clock`."""
        self._patches.clear()
        self.clock = clock
        self.shown = 0

    def clear(self) -> None:
        """Drops all data."""
        self._patches.clear()
        self._audio = np.zeros(0, np.float32)
