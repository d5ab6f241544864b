"""Frame count of a live clip, and the position of each frame in the stream and in the clip. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock
from warmtalk.services.session.live.frame_sequencer import FramePlan

_MAX_PLANS = 32
"""Latest frame plans kept for `open_mouth_plan`: no player is further behind when the client interrupts."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """Position of one frame in the stream and in the clip."""

    position: int
    """48 kHz samples of the stream before the frame."""
    clip_frames: int
    """Frames of the clip before the frame."""
    source_index: int


class ClipTimeline:
    """Frames of one clip: the lead-in first, then the frames shown by the stream. Not thread-safe."""

    def __init__(self, clock: FrameClock, first_frame: int) -> None:
        """`clock` has the rate of the conversation; `first_frame` is the position of the clip in the conversation."""
        self._clock = clock
        self._first = first_frame
        self._samples = 0
        self._recorded: list[RecordedFrame] = []
        self._plans: deque[tuple[int, FramePlan]] = deque(maxlen=_MAX_PLANS)
        """(frames of the clip before the frame, plan) of the latest frames."""
        self.frames = 0
        """Frames of the clip so far."""
        self.lead_in_frames = 0
        """Idle frames in front of the speech."""
        self.frames_to_speech_end = 0
        """Frames of the clip up to the last speech frame; idle frames after the speech do not count."""

    def add_lead_in(self, frames: int) -> int:
        """Adds `frames` idle frames at the start and returns the number of 48 kHz samples."""
        start, end = (self._clock.samples_at(self._first + k, CLIP_RATE_HZ) for k in (0, frames))
        self._samples = end - start
        self.frames = self.lead_in_frames = frames
        return self._samples

    def add_frame(self, position: int, plan: FramePlan) -> int:
        """Adds a frame shown at `position` of the stream and returns how often the clip repeats the frame.

        The clip keeps the rate of the conversation, so the frames of a slower stream are repeated.
        """
        self._recorded.append(RecordedFrame(position, self.frames, plan.source_index))
        self._plans.append((self.frames, plan))
        self._samples += len(plan.audio)
        end = self._clock.samples_at(self._first, CLIP_RATE_HZ) + self._samples
        frames = round(end * self._clock.fps / CLIP_RATE_HZ) - self._first
        repeats, self.frames = frames - self.frames, frames
        if plan.speech:
            self.frames_to_speech_end = frames
        return repeats

    def frames_before(self, position: int) -> int:
        """Returns the frames of the clip, lead-in included, that the stream shows before `position`."""
        later = (one.clip_frames for one in self._recorded if one.position >= position)
        return next(later, self.frames)

    def next_source_index(self, frames: int) -> int:
        """Returns the source index after the last frame of the clip cut to `frames`, more than the lead-in."""
        return next(one.source_index for one in reversed(self._recorded) if one.clip_frames < frames) + 1

    def open_mouth_plan(self, frames: int) -> FramePlan | None:
        """Returns the last plan of the clip cut to `frames` when the plan has a patch and is recent; else None."""
        plan = next((plan for clip_frames, plan in reversed(self._plans) if clip_frames < frames), None)
        return plan if plan is not None and plan.patch is not None else None

    def release(self) -> None:
        """Drops the patches."""
        self._plans.clear()
