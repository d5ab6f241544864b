"""Frame clock, forth-and-back cycle, boxes and patches."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.core.types import Box, FrameClock, Patch, cycle_row

RATES = st.sampled_from([Fraction(25), Fraction(30), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)])


@given(RATES, st.integers(0, 400_000))
def test_audio_of_whole_frames_needs_exactly_these_frames(fps: Fraction, frames: int) -> None:
    clock = FrameClock(fps)
    samples = clock.samples_at(frames, 48_000)
    assert abs(samples - frames * 48_000 / fps) <= Fraction(1, 2)
    assert clock.frames_for(samples, 48_000) in (frames, frames + 1)
    assert clock.frames_for(samples - 1, 48_000) <= frames


def test_ntsc_does_not_drift_in_an_hour() -> None:
    clock = FrameClock(Fraction(30000, 1001))
    an_hour = clock.frames_for(3600 * 48_000, 48_000)
    assert abs(clock.samples_at(an_hour, 48_000) - 3600 * 48_000) <= 48_000 / clock.fps


@pytest.mark.parametrize("fps", [0, 121, -5])
def test_impossible_rates_are_refused(fps: int) -> None:
    with pytest.raises(ValueError, match="fps"):
        FrameClock(Fraction(fps))


def test_the_cycle_goes_forth_and_back() -> None:
    assert [cycle_row(index, 3) for index in range(8)] == [0, 1, 2, 2, 1, 0, 0, 1]
    assert [cycle_row(index, 1) for index in range(3)] == [0, 0, 0]


@given(st.integers(1, 50), st.integers(0, 1000))
def test_neighbours_in_the_cycle_are_neighbours_in_the_source(rows: int, index: int) -> None:
    assert abs(cycle_row(index, rows) - cycle_row(index + 1, rows)) <= 1


def test_a_box_is_clipped_to_the_frame() -> None:
    assert Box(-10, 5, 30, 90).clipped(20, 40) == Box(0, 5, 20, 40)
    assert Box(50, 50, 60, 60).clipped(20, 40).empty
    with pytest.raises(ValueError, match="negative size"):
        Box(5, 0, 4, 1)


def test_a_patch_fills_its_box() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        Patch(0, 0, Box(0, 0, 4, 4), np.zeros((4, 5, 3), np.uint8))
