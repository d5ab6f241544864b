"""What each frame of a live stream shows, without a stream."""

from __future__ import annotations

import numpy as np

from tests.fakes import PATCH_BOX
from warmtalk.core.types import FrameClock, Patch, Samples
from warmtalk.services.session.live.frame_sequencer import FramePlan, FrameSequencer


class Take:
    """A take whose pictures a test makes ready one by one."""

    def __init__(self, start_index: int, frames: int) -> None:
        self.start_index = start_index
        self.clock = FrameClock()
        self.frames = frames
        self.there = 0
        self.taken = 0
        self.closed = False
        self.starved = False

    @property
    def ready(self) -> bool:
        return self.taken < min(self.there, self.frames)

    @property
    def done(self) -> bool:
        return self.taken == self.frames

    def take(self) -> tuple[Patch, Samples]:
        pixels = np.full((PATCH_BOX.height, PATCH_BOX.width, 3), 9, np.uint8)
        self.taken += 1
        return Patch(self.taken - 1, 0, PATCH_BOX, pixels), np.full(1920, 0.5, np.float32)

    def close(self) -> None:
        self.closed = True


def shots(director: FrameSequencer, count: int) -> list[FramePlan]:
    found = [director.next() for _ in range(count)]
    assert all(shot is not None for shot in found)
    return [shot for shot in found if shot is not None]


def test_idle_speech_idle_on_one_count() -> None:
    director = FrameSequencer(FrameClock(), 100)
    assert [shot.index for shot in shots(director, 3)] == [100, 101, 102]
    take = Take(105, 6)
    take.there = 6
    director.begin(take)
    seen = shots(director, 14)
    assert [shot.index for shot in seen] == list(range(103, 117)), "no frame twice, none left out"
    assert [shot.speech for shot in seen] == [False] * 2 + [True] * 10 + [False] * 2
    assert [round(shot.mix, 1) for shot in seen[2:12]] == [0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert [shot.first for shot in seen].index(True) == 2
    assert director.free


def test_a_late_take_is_waited_for_where_it_enters() -> None:
    director = FrameSequencer(FrameClock(), 10)
    take = Take(12, 3)
    director.begin(take)
    assert [shot.index for shot in shots(director, 4)] == [10, 11, 11, 11]
    take.there = 3
    assert [shot.index for shot in shots(director, 2)] == [12, 13]


def test_sound_stops_and_starts_without_a_click() -> None:
    director = FrameSequencer(FrameClock(), 0)
    take = Take(0, 4)
    take.there = 2
    director.begin(take)
    seen = shots(director, 3)
    take.there = 4
    sound = np.concatenate([shot.sound for shot in [*seen, *shots(director, 4)]])
    assert np.abs(np.diff(sound)).max() < 0.01
    assert np.abs(sound[-1920:]).max() == 0


def test_a_starved_take_ends_after_three_frames() -> None:
    director = FrameSequencer(FrameClock(), 0)
    take = Take(0, 9)
    take.there, take.starved = 1, True
    director.begin(take)
    held = shots(director, 4)
    assert not take.closed
    assert {shot.index for shot in held} == {0}
    shots(director, 1)
    assert take.closed


def test_a_cut_closes_the_mouth_in_two_frames() -> None:
    director = FrameSequencer(FrameClock(), 0)
    take = Take(0, 100)
    take.there = 100
    director.begin(take)
    shots(director, 10)
    director.cut()
    seen = shots(director, 4)
    assert [round(shot.mix, 2) for shot in seen] == [0.67, 0.33, 0, 0]
    assert [shot.index for shot in seen] == [10, 11, 12, 13]
    assert seen[0].sound[-1] == 0


def test_nothing_to_show_without_idle() -> None:
    director = FrameSequencer(FrameClock(), 5)
    assert director.next(idle=False) is None
    take = Take(5, 1)
    take.there = 1
    director.begin(take)
    assert [shot.index for shot in iter(lambda: director.next(idle=False), None)] == [5, 6, 7, 8, 9]
