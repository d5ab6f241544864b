"""Tests of the wall-clock pacing, with a fake clock."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.live_fakes import FakeTime
from warmtalk.services.session.live.pacer import FramePacer

FRAME = 1920
"""Samples of one frame at 25 frames per second."""


async def show_frames(pacer: FramePacer, time: FakeTime, count: int, *, stalls: dict[int, float]) -> list[float]:
    """Returns the times at which frames 1 to `count` are due; the work on frame k takes stalls[k] seconds."""
    due: list[float] = []

    async def show() -> None:
        for number in range(count):
            time.stall(stalls.get(number, 0.0))
            await pacer.wait_until_due((number + 1) * FRAME)
            due.append(time.monotonic())

    task = asyncio.create_task(show())
    await time.advance(count * 0.04 + sum(stalls.values()) + 1)
    await task
    return due


async def test_frames_are_due_ahead_of_the_player() -> None:
    time = FakeTime()
    start = time.now
    due = await show_frames(FramePacer(0.1, time), time, 10, stalls={})
    assert due[2:] == pytest.approx([start + 0.04 * number - 0.1 for number in range(3, 11)])
    assert due[:2] == pytest.approx([start, start]), "frames inside the lead are due at once"


async def test_short_stall_is_caught_up() -> None:
    time = FakeTime()
    start = time.now
    due = await show_frames(FramePacer(0.1, time), time, 40, stalls={10: 0.3})
    assert due[10] == pytest.approx(start + 0.04 * 10 - 0.1 + 0.3)
    assert due[-1] == pytest.approx(start + 0.04 * 40 - 0.1), "back on schedule"
    assert due[11] - due[10] == pytest.approx(0), "no pause while the stream is late"


async def test_long_stall_moves_the_schedule() -> None:
    """The stream continues from the present position at the usual pace: no burst of late frames."""
    time = FakeTime()
    start = time.now
    due = await show_frames(FramePacer(0.1, time), time, 40, stalls={10: 1.0})
    intervals = [after - before for before, after in itertools.pairwise(due[10:])]
    assert intervals == pytest.approx([0.04] * len(intervals))
    assert due[-1] > start + 0.04 * 40 + 0.8


async def test_late_by_the_bound_is_still_caught_up() -> None:
    time = FakeTime()
    start = time.now
    due = await show_frames(FramePacer(0.0, time), time, 60, stalls={10: 0.43})
    assert due[-1] == pytest.approx(start + 0.04 * 60)


async def test_frames_are_sent_at_an_even_pace() -> None:
    """A frame that was made early is held until 20 ms after the due time."""
    time = FakeTime()
    pacer = FramePacer(0.1, time)
    start = time.now
    sending = asyncio.create_task(pacer.wait_until_send(10 * FRAME))
    await time.advance(1.0)
    assert sending.done()
    pacer = FramePacer(0.1, time)
    start = time.now
    sending = asyncio.create_task(pacer.wait_until_send(10 * FRAME))
    await time.advance(0.4 - 0.1 + 0.02 - 0.001)
    assert not sending.done()
    await time.advance(0.002)
    assert sending.done()
    assert time.now - start == pytest.approx(0.321)


async def test_resume_after_a_pause() -> None:
    time = FakeTime()
    pacer = FramePacer(0.0, time)
    time.stall(5.0)
    assert pacer.time_left_s(FRAME) == 0
    pacer.resume_at(FRAME)
    assert pacer.time_left_s(2 * FRAME) == pytest.approx(0.04)
    pacer.resume_at(0)
    assert pacer.time_left_s(2 * FRAME) == pytest.approx(0.08)
    pacer.resume_at(10 * FRAME)
    assert pacer.time_left_s(2 * FRAME) == pytest.approx(0.08), "the schedule never moves to an earlier time"
