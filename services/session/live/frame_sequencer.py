"""Plans each frame of a live stream: idle, fading in, speaking, holding, fading out. Pure.

Idle and speech share one count of source frames. A speech segment starts at a source frame a little ahead; idle frames
lead up to that frame and wait there when the first patch is late, so that the head never jumps.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Patch, Samples

FADE_IN = (1 / 5, 2 / 5, 3 / 5, 4 / 5)
"""Weights of the rendered mouth in the first frames of a segment, whose lips are closed."""
FADE_OUT = (4 / 5, 3 / 5, 2 / 5, 1 / 5)
"""Weights of the last rendered mouth in the frames after a segment, whose lips are closed."""
CUT_FADE = (2 / 3, 1 / 3)
"""Weights of the last rendered mouth after a segment that was cut."""
_AUDIO_FADE_SAMPLES = 144
"""48 kHz samples, 3 ms, over which audio fades where speech stops or starts, so that no cut clicks."""
_MAX_HELD_FRAMES = 3
"""Frames for which a segment without audio is held before the segment ends."""


class SpeechSource(Protocol):
    """A speech segment as the sequencer uses the segment; see SpeechSegment."""

    start_index: int

    @property
    def clock(self) -> FrameClock: ...
    @property
    def ready(self) -> bool: ...
    @property
    def done(self) -> bool: ...
    @property
    def starved(self) -> bool: ...
    def next_frame(self) -> tuple[Patch, Samples]: ...
    def end_audio(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Content of one frame that is to be composited and encoded."""

    source_index: int
    """Source frame, counted along the forth-and-back cycle."""
    audio: Samples
    """48 kHz; the frame is shown for the length of the audio."""
    patch: Patch | None = None
    patch_weight: float = 1.0
    """Share of the patch in the image, 0 to 1."""
    speech: bool = False
    """True for every frame of an utterance, fades included."""
    starts_segment: bool = False
    """True for the first frame of a speech segment."""


class FrameSequencer:
    """Frame plans of one stream. Not thread-safe."""

    def __init__(self, clock: FrameClock, source_index: int) -> None:
        self.clock = clock
        """Present frame clock of the stream; follows the clock of the segment."""
        self.source_index = source_index
        """Source frame of the next plan."""
        self._silent_frames = 0
        """Silent frames by the present clock."""
        self._segment: SpeechSource | None = None
        self._shown = 0
        """Frames of the segment shown so far."""
        self._held = 0
        """Frames held in a row while the next patch is late."""
        self._last_patch: Patch | None = None
        self._fade_out: deque[float] = deque()
        self._level = 0.0
        """Value of the last audio sample."""

    @property
    def is_idle(self) -> bool:
        """True when no segment is playing or fading out."""
        return self._segment is None and not self._fade_out

    def start_segment(self, segment: SpeechSource) -> None:
        """Plays `segment` from the frame at which the segment starts. Only one segment at a time."""
        assert self._segment is None, "the segment before has not ended"
        self._segment = segment
        self._shown = self._held = 0

    def cut_segment(self) -> None:
        """Drops the segment; the mouth closes from the next frame on."""
        self._end_segment(CUT_FADE)

    def release(self) -> None:
        """Drops all patches, after the last frame of the stream."""
        self._segment = self._last_patch = None
        self._fade_out.clear()

    def next_plan(self, *, idle: bool = True) -> FramePlan | None:
        """Returns the plan of the next frame; None when there is no speech and `idle` frames are not wanted."""
        segment = self._segment
        if segment is not None and segment.clock != self.clock:
            self.clock, self._silent_frames = segment.clock, 0
        if segment is not None and segment.ready and self._may_show(segment, idle=idle):
            return self._plan_speech(segment)
        if segment is not None and segment.done:
            self._end_segment(FADE_OUT)
        elif segment is not None and self._shown:
            return self._plan_hold(segment)
        if self._fade_out:
            return self._plan_silent(self._last_patch, self._fade_out.popleft(), speech=True)
        return self._plan_idle(segment) if idle else None

    def _may_show(self, segment: SpeechSource, *, idle: bool) -> bool:
        return self._shown > 0 or not idle or self.source_index >= segment.start_index

    def _end_segment(self, weights: tuple[float, ...]) -> None:
        if self._shown:
            self._fade_out.extend(weights)
        self._segment = None
        self._shown = 0

    def _plan_speech(self, segment: SpeechSource) -> FramePlan:
        first = not self._shown
        patch, audio = segment.next_frame()
        if self._held or first:
            audio = _faded_in(audio)
        weight = FADE_IN[self._shown] if self._shown < len(FADE_IN) else 1.0
        self._fade_out.clear()
        self._shown += 1
        self._held = 0
        self._last_patch = patch
        self._level = float(audio[-1])
        if first:
            self.source_index = segment.start_index
        return FramePlan(self._advance(), audio, patch, weight, speech=True, starts_segment=first)

    def _plan_hold(self, segment: SpeechSource) -> FramePlan:
        """Repeats the last frame while the next patch is late; ends the segment when audio is missing for too long."""
        self._held += 1
        if self._held > _MAX_HELD_FRAMES and segment.starved:
            segment.end_audio()
        return FramePlan(self.source_index - 1, self._silence(), self._last_patch, speech=True)

    def _plan_idle(self, segment: SpeechSource | None) -> FramePlan:
        if segment is not None and self.source_index >= segment.start_index:
            return FramePlan(max(0, self.source_index - 1), self._silence())
        return self._plan_silent(None, 0.0, speech=False)

    def _plan_silent(self, patch: Patch | None, weight: float, *, speech: bool) -> FramePlan:
        return FramePlan(self._advance(), self._silence(), patch, weight, speech)

    def _advance(self) -> int:
        self.source_index += 1
        return self.source_index - 1

    def _silence(self) -> Samples:
        """Returns the silence of one frame, which starts with a fade from the last audio sample."""
        start, end = (self.clock.samples_at(self._silent_frames + k, CLIP_RATE_HZ) for k in (0, 1))
        self._silent_frames += 1
        audio = np.zeros(end - start, np.float32)
        fade = audio[:_AUDIO_FADE_SAMPLES]
        fade[:] = self._level * np.linspace(1, 0, len(fade), dtype=np.float32)
        self._level = 0.0
        return audio


def _faded_in(audio: Samples) -> Samples:
    faded = audio.copy()
    start = faded[:_AUDIO_FADE_SAMPLES]
    start *= np.linspace(0, 1, len(start), dtype=np.float32)
    return faded
