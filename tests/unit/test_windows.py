"""Feature windows: equal to the reference in reference mode; centred and exact otherwise."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.core import windows
from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import FrameClock

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "data" / "audio_index.npz")
RATES = [
    Fraction(n, d) for n, d in ((10, 1), (15, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001), (48, 1), (60, 1))
]


@pytest.mark.parametrize("key", GOLDEN.files)
def test_reference_mode_is_the_reference(key: str) -> None:
    rate, _, length = key.removeprefix("idx_fps").partition("_len")
    assert np.array_equal(windows.reference(int(length or 40_000), float(rate)), GOLDEN[key])


def test_the_reference_stops_at_50_fps() -> None:
    with pytest.raises(InvalidInput, match="does not support 50 fps"):
        windows.reference(40_000, 50)


@pytest.mark.parametrize("fps", [25, 30])
def test_at_centred_rates_the_windows_equal_the_reference(fps: int) -> None:
    samples = 480_000
    assert np.array_equal(windows.centred(samples, FrameClock(Fraction(fps))), windows.reference(samples, fps))


@given(st.sampled_from(RATES), st.integers(0, 1_000_000))
def test_the_window_is_centred_to_half_a_step_at_every_rate_and_time(fps: Fraction, frame: int) -> None:
    middle_of_frame = (frame + Fraction(1, 2)) * windows.STEPS_PER_SECOND / fps
    middle_of_window = windows.first_step(frame, fps) + Fraction(windows.WINDOW_STEPS, 2)
    assert abs(middle_of_window - middle_of_frame) <= Fraction(1, 2)


@pytest.mark.parametrize("fps", RATES)
def test_an_hour_has_every_frame_and_no_drift(fps: Fraction) -> None:
    hour = 3600 * 16_000
    index = windows.centred(hour, FrameClock(fps))
    assert len(index) == -(-3600 * fps.numerator // fps.denominator)
    last = index[-1][index[-1] >= 0]
    assert last[-1] == 3600 * 50 - 1
    seconds = [float((frame + 0.5) / fps) for frame in range(len(index) - 20, len(index) - 10)]
    assert np.allclose(index[-20:-10].mean(1) + 0.5, np.array(seconds) * 50, atol=0.5)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (640, 1), (641, 2), (34_192, 54)])
def test_a_partial_frame_counts_as_a_frame(samples: int, frames: int) -> None:
    index = windows.centred(samples, FrameClock())
    assert index.shape == (frames, 10)
    assert (index.max(initial=-1) >= 0) == (samples > 0)
