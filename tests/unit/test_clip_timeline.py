"""Tests of the frame count of a live clip and of the part that an interrupt keeps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.live_fakes import patch
from warmtalk.core.types import FrameClock
from warmtalk.services.session.live.clip_timeline import ClipTimeline
from warmtalk.services.session.live.frame_sequencer import FramePlan

FRAME = 1920
"""Samples of one frame at 25 frames per second."""


def plan(source_index: int, *, samples: int = FRAME, speech: bool = True) -> FramePlan:
    audio = np.zeros(samples, np.float32)
    return FramePlan(source_index, audio, patch(source_index) if speech else None, speech=speech)


def timeline_of(frames: int, *, lead_in: int = 0, position: int = 0) -> ClipTimeline:
    """Returns a clip of `frames` speech frames, the first of source index 100 at `position` of the stream."""
    timeline = ClipTimeline(FrameClock(), 40)
    if lead_in:
        assert timeline.add_lead_in(lead_in) == lead_in * FRAME
    for number in range(frames):
        assert timeline.add_frame(position + number * FRAME, plan(100 + number)) == 1
    return timeline


def test_frames_played_up_to_a_position() -> None:
    timeline = timeline_of(10, lead_in=15, position=7 * FRAME)
    assert (timeline.frames, timeline.lead_in_frames) == (25, 15)
    assert timeline.frames_before(7 * FRAME) == 15, "nothing of the speech"
    assert timeline.frames_before(9 * FRAME) == 17
    assert timeline.frames_before(9 * FRAME - 1) == 17, "a frame that has begun was shown"
    assert timeline.frames_before(1000 * FRAME) == 25


def test_source_index_continues_after_the_kept_part() -> None:
    timeline = timeline_of(10, lead_in=15)
    assert timeline.next_source_index(25) == 110
    assert timeline.next_source_index(18) == 103


def test_mouth_is_open_at_the_end_of_a_cut() -> None:
    timeline = timeline_of(10)
    last = timeline.open_mouth_plan(4)
    assert last is not None
    assert last.source_index == 103
    timeline.add_frame(10 * FRAME, plan(110, speech=False))
    assert timeline.open_mouth_plan(11) is None, "the mouth is closed in an idle frame"


def test_only_recent_plans_are_kept() -> None:
    timeline = timeline_of(100)
    assert timeline.open_mouth_plan(100) is not None
    assert timeline.open_mouth_plan(60) is None
    timeline.release()
    assert timeline.open_mouth_plan(100) is None


def test_idle_frames_after_the_speech_do_not_count() -> None:
    timeline = timeline_of(10)
    for number in range(3):
        timeline.add_frame((10 + number) * FRAME, plan(110 + number, speech=False))
    assert (timeline.frames, timeline.frames_to_speech_end) == (13, 10)
    timeline.add_frame(13 * FRAME, plan(113))
    assert timeline.frames_to_speech_end == 14, "idle frames between two segments count"


@pytest.mark.parametrize("fps", [Fraction(17), Fraction(21)])
def test_frames_of_a_slower_stream_are_repeated(fps: Fraction) -> None:
    """The clip keeps 25 frames per second, so the length stays within one frame of the audio."""
    timeline, slow = ClipTimeline(FrameClock(), 3), FrameClock(fps)
    position, repeats = 0, []
    for number in range(int(fps) * 4):
        samples = slow.samples_at(number + 1, 48_000) - slow.samples_at(number, 48_000)
        repeats.append(timeline.add_frame(position, plan(number, samples=samples)))
        position += samples
        assert abs(timeline.frames * FRAME - position) <= FRAME / 2
    assert timeline.frames == sum(repeats) == 100
    assert set(repeats) == {1, 2}
