"""Tests of the plan of each frame, without a stream."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tests.fakes import PATCH_BOX
from warmtalk.core.types import FrameClock, Patch, Samples
from warmtalk.services.session.live.frame_sequencer import FramePlan, FrameSequencer


class FakeSegment:
    """A speech segment whose frames a test makes ready one by one."""

    def __init__(self, start_index: int, frames: int, *, ready: int = 0) -> None:
        self.start_index = start_index
        self.clock = FrameClock()
        self.frames = frames
        self.ready_frames = ready
        self.shown = 0
        self.audio_ended = False
        self.starved = False

    @property
    def ready(self) -> bool:
        return self.shown < min(self.ready_frames, self.frames)

    @property
    def done(self) -> bool:
        return self.shown == self.frames

    def next_frame(self) -> tuple[Patch, Samples]:
        pixels = np.full((PATCH_BOX.height, PATCH_BOX.width, 3), 9, np.uint8)
        self.shown += 1
        return Patch(self.shown - 1, 0, PATCH_BOX, pixels), np.full(1920, 0.5, np.float32)

    def end_audio(self) -> None:
        self.audio_ended = True


def next_plans(sequencer: FrameSequencer, count: int) -> list[FramePlan]:
    plans = [sequencer.next_plan() for _ in range(count)]
    assert all(plan is not None for plan in plans)
    return [plan for plan in plans if plan is not None]


def test_idle_and_speech_share_one_count() -> None:
    sequencer = FrameSequencer(FrameClock(), 100)
    assert [plan.source_index for plan in next_plans(sequencer, 3)] == [100, 101, 102]
    sequencer.start_segment(FakeSegment(105, 6, ready=6))
    plans = next_plans(sequencer, 14)
    assert [plan.source_index for plan in plans] == list(range(103, 117)), "no frame twice, none left out"
    assert [plan.speech for plan in plans] == [False] * 2 + [True] * 10 + [False] * 2
    weights = [round(plan.patch_weight, 1) for plan in plans[2:12]]
    assert weights == [0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert [plan.starts_segment for plan in plans].index(True) == 2
    assert sequencer.is_idle


def test_idle_frames_wait_at_the_start_of_a_late_segment() -> None:
    sequencer = FrameSequencer(FrameClock(), 10)
    segment = FakeSegment(12, 3)
    sequencer.start_segment(segment)
    assert [plan.source_index for plan in next_plans(sequencer, 4)] == [10, 11, 11, 11]
    segment.ready_frames = 3
    assert [plan.source_index for plan in next_plans(sequencer, 2)] == [12, 13]


def test_audio_stops_and_starts_without_a_click() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    segment = FakeSegment(0, 4, ready=2)
    sequencer.start_segment(segment)
    plans = next_plans(sequencer, 3)
    segment.ready_frames = 4
    audio = np.concatenate([plan.audio for plan in [*plans, *next_plans(sequencer, 4)]])
    assert np.abs(np.diff(audio)).max() < 0.01
    assert np.abs(audio[-1920:]).max() == 0


def test_starved_segment_ends_after_three_held_frames() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    segment = FakeSegment(0, 9, ready=1)
    segment.starved = True
    sequencer.start_segment(segment)
    plans = next_plans(sequencer, 4)
    assert not segment.audio_ended
    assert {plan.source_index for plan in plans} == {0}
    next_plans(sequencer, 1)
    assert segment.audio_ended


def test_segment_that_waits_for_infer_is_held_without_a_limit() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    segment = FakeSegment(0, 9, ready=1)
    sequencer.start_segment(segment)
    plans = next_plans(sequencer, 50)
    assert not segment.audio_ended
    assert {plan.source_index for plan in plans} == {0}
    segment.ready_frames = 9
    assert next_plans(sequencer, 1)[0].source_index == 1


def test_cut_closes_the_mouth_in_two_frames() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    sequencer.start_segment(FakeSegment(0, 100, ready=100))
    next_plans(sequencer, 10)
    sequencer.cut_segment()
    plans = next_plans(sequencer, 4)
    assert [round(plan.patch_weight, 2) for plan in plans] == [0.67, 0.33, 0, 0]
    assert [plan.source_index for plan in plans] == [10, 11, 12, 13]
    assert [plan.speech for plan in plans] == [True, True, False, False]
    assert plans[0].audio[-1] == 0


def test_cut_before_the_first_frame_shows_nothing() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    sequencer.start_segment(FakeSegment(3, 5, ready=5))
    next_plans(sequencer, 2)
    sequencer.cut_segment()
    assert sequencer.is_idle
    assert not any(plan.speech for plan in next_plans(sequencer, 3))


def test_no_plan_without_idle_frames() -> None:
    sequencer = FrameSequencer(FrameClock(), 5)
    assert sequencer.next_plan(idle=False) is None
    sequencer.start_segment(FakeSegment(5, 1, ready=1))
    plans = iter(lambda: sequencer.next_plan(idle=False), None)
    assert [plan.source_index for plan in plans] == [5, 6, 7, 8, 9]


def test_silence_follows_the_rate_of_the_segment() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    segment = FakeSegment(0, 1, ready=1)
    segment.clock = FrameClock(Fraction(17))
    sequencer.start_segment(segment)
    silence = next_plans(sequencer, 18)[1:]
    assert sequencer.clock.fps == 17
    assert sum(len(plan.audio) for plan in silence) == 48_000


def test_release_drops_the_patches() -> None:
    sequencer = FrameSequencer(FrameClock(), 0)
    sequencer.start_segment(FakeSegment(0, 5, ready=5))
    next_plans(sequencer, 2)
    sequencer.release()
    assert sequencer.is_idle
    assert next_plans(sequencer, 1)[0].patch is None
