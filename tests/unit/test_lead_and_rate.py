"""Tests of the lead of a speech segment and of the steps of the frame rate, with a fake clock."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.live_fakes import FakeTime
from warmtalk.core.types import FrameClock
from warmtalk.services.session.live.lead_estimator import LeadEstimator
from warmtalk.services.session.live.rate_control import RateControl

FPS = Fraction(25)


def test_lead_covers_the_measured_delay() -> None:
    lead = LeadEstimator()
    assert lead.lead_frames(0.0, FPS) == 3, "0.1 s before the first measurement"
    lead.update(0.05)
    assert lead.lead_frames(0.0, FPS) == 2
    assert lead.lead_frames(0.03, FPS) == 1, "time until the next frame is part of the delay"


def test_lead_falls_at_once_and_rises_slowly() -> None:
    lead = LeadEstimator()
    lead.update(0.02)
    assert lead.lead_frames(0.0, FPS) == 1
    lead.update(0.3)
    assert lead.lead_frames(0.0, FPS) == 3, "0.02 + 0.25 * 0.28 = 0.09 s"
    for _ in range(30):
        lead.update(0.3)
    assert lead.lead_frames(0.0, FPS) == 8


@pytest.mark.parametrize(("delay_s", "frames"), [(0.0, 1), (5.0, 8)])
def test_lead_is_bounded(delay_s: float, frames: int) -> None:
    lead = LeadEstimator()
    for _ in range(30):
        lead.update(delay_s)
    assert lead.lead_frames(0.0, FPS) == frames


@pytest.mark.parametrize(("render_fps", "rate"), [(24.0, 21), (21.0, 21), (20.0, 17), (5.0, 17)])
def test_rate_steps_down_to_the_speed_of_infer(render_fps: float, rate: int) -> None:
    control = RateControl(FrameClock(), FakeTime())
    assert control.step_down(render_fps)
    assert control.clock.fps == rate


def test_rate_has_a_lowest_step() -> None:
    control = RateControl(FrameClock(), FakeTime())
    assert control.step_down(10.0)
    assert not control.step_down(10.0)
    assert control.clock.fps == 17


def test_rate_rises_one_step_at_a_time_after_ten_seconds() -> None:
    time = FakeTime()
    control = RateControl(FrameClock(), time)
    assert not control.step_up(), "at the full rate"
    control.step_down(5.0)
    time.stall(9.9)
    assert not control.step_up()
    time.stall(0.2)
    rates = []
    while control.step_up():
        rates.append(control.clock.fps)
    assert rates == [21, 25]


@pytest.mark.parametrize(
    ("fps", "down", "up"), [(Fraction(20), [17], [20]), (Fraction(30), [25, 21, 17], [21, 25, 30])]
)
def test_rates_of_other_conversations(fps: Fraction, down: list[int], up: list[int]) -> None:
    """Steps lie below the rate of the conversation, which is the limit on the way up."""
    time = FakeTime()
    control = RateControl(FrameClock(fps), time)
    rates = []
    while control.step_down(float(control.clock.fps) - 1e-3):
        rates.append(int(control.clock.fps))
    assert rates == down
    time.stall(11.0)
    rates = []
    while control.step_up():
        rates.append(int(control.clock.fps))
    assert rates == up
