"""Decides what each next frame of a live stream shows: idle, entering, speaking, holding, leaving. Pure.

Idle and speech share one count of source frames. A take is drawn from a frame that lies a little ahead; idle frames
lead up to it, and wait there when the first picture is late, so that nothing jumps.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Patch, Samples

FADE_IN = (1 / 5, 2 / 5, 3 / 5, 4 / 5)
"""Share of the drawn mouth in the first pictures of a take; its lips are closed there."""
FADE_OUT = (4 / 5, 3 / 5, 2 / 5, 1 / 5)
"""Share of the last drawn mouth in the pictures after a take; its lips are closed."""
CUT_FADE = (2 / 3, 1 / 3)
"""The same after a take that was cut."""
_AUDIO_FADE_SAMPLES = 144
"""Samples, 3 ms: sound that stops or starts anywhere does not click."""
_MAX_HELD_FRAMES = 3
"""Frames that a take without sound is waited for before it ends."""


class SpeechSource(Protocol):
    """What the director sees of a take."""

    start_index: int

    @property
    def clock(self) -> FrameClock: ...
    @property
    def ready(self) -> bool: ...
    @property
    def done(self) -> bool: ...
    @property
    def starved(self) -> bool: ...
    def take(self) -> tuple[Patch, Samples]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FramePlan:
    """One frame to be made."""

    index: int
    """Source frame, counted along the forth-and-back cycle."""
    sound: Samples
    """48 kHz; the frame is shown as long as it lasts."""
    patch: Patch | None = None
    mix: float = 1.0
    """Share of the patch, 0 to 1."""
    speech: bool = False
    """Part of an utterance, entering and leaving included."""
    first: bool = False
    """First picture of a take."""


class FrameSequencer:
    """One stream. Not thread-safe."""

    def __init__(self, clock: FrameClock, index: int) -> None:
        self.clock = clock
        self.index = index
        """Source frame of the next picture."""
        self._count = 0
        """Idle frames by the present clock."""
        self._take: SpeechSource | None = None
        self._entered = 0
        self._held = 0
        self._last: Patch | None = None
        self._leaving: deque[float] = deque()
        self._level = 0.0
        """The last sample shown."""

    @property
    def speaking(self) -> bool:
        """A take has begun to show, or is still leaving."""
        return self._entered > 0 or bool(self._leaving)

    @property
    def free(self) -> bool:
        return self._take is None and not self._leaving

    def begin(self, take: SpeechSource) -> None:
        assert self._take is None, "one take after another"
        self._take = take
        self._entered = self._held = 0

    def forget(self) -> None:
        """Nothing is shown any more: lets go of the pictures."""
        self._take = self._last = None
        self._leaving.clear()

    def cut(self) -> None:
        """The take is not wanted any more: the mouth closes from the next frame on."""
        self._leave(CUT_FADE)

    def _leave(self, shares: tuple[float, ...]) -> None:
        if self._entered:
            self._leaving.extend(shares)
        self._take = None
        self._entered = 0

    def next(self, *, idle: bool = True) -> FramePlan | None:
        """None when there is nothing to show and `idle` pictures are not wanted."""
        take = self._take
        if take is not None and take.clock != self.clock:
            self.clock, self._count = take.clock, 0
        if take is not None and take.ready and (self._entered or not idle or self.index >= take.start_index):
            return self._speak(take)
        if take is not None and take.done:
            self._leave(FADE_OUT)
        elif take is not None and self._entered:
            return self._hold(take)
        if self._leaving:
            return self._quiet(self._last, self._leaving.popleft(), speech=True)
        return self._idle(take) if idle else None

    def _speak(self, take: SpeechSource) -> FramePlan:
        first = not self._entered
        patch, sound = take.take()
        if self._held or first:
            sound = _faded_in(sound)
        mix = FADE_IN[self._entered] if self._entered < len(FADE_IN) else 1.0
        self._leaving.clear()
        self._entered += 1
        self._held = 0
        self._last = patch
        self._level = float(sound[-1])
        self.index = take.start_index if first else self.index
        shown, self.index = self.index, self.index + 1
        return FramePlan(shown, sound, patch, mix, speech=True, first=first)

    def _hold(self, take: SpeechSource) -> FramePlan:
        """The picture stands while its next one is late; without sound for too long the take ends here."""
        self._held += 1
        if self._held > _MAX_HELD_FRAMES and take.starved:
            take.close()
        return FramePlan(self.index - 1, self._silence(), self._last, speech=True)

    def _idle(self, take: SpeechSource | None) -> FramePlan:
        if take is not None and self.index >= take.start_index:
            return FramePlan(max(0, self.index - 1), self._silence())
        return self._quiet(None, 0.0, speech=False)

    def _quiet(self, patch: Patch | None, mix: float, *, speech: bool) -> FramePlan:
        shown, self.index = self.index, self.index + 1
        return FramePlan(shown, self._silence(), patch, mix, speech)

    def _silence(self) -> Samples:
        edges = (self.clock.samples_at(self._count + k, CLIP_RATE_HZ) for k in (0, 1))
        begin, end = edges
        self._count += 1
        sound = np.zeros(end - begin, np.float32)
        sound[:_AUDIO_FADE_SAMPLES] = self._level * np.linspace(
            1, 0, len(sound[:_AUDIO_FADE_SAMPLES]), dtype=np.float32
        )
        self._level = 0.0
        return sound


def _faded_in(sound: Samples) -> Samples:
    faded = sound.copy()
    faded[:_AUDIO_FADE_SAMPLES] *= np.linspace(0, 1, len(faded[:_AUDIO_FADE_SAMPLES]), dtype=np.float32)
    return faded
