"""Tests of a speech segment with a fake clock and a fake infer service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction

import numpy as np
import pytest

from tests.fakes import SHA
from tests.live_fakes import FakeInferClient, FakeTime
from warmtalk.core.errors import Unreachable
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import FrameClock
from warmtalk.services.session.infer_client import RenderSettings
from warmtalk.services.session.live.speech_segment import SpeechSegment

SETTINGS = RenderSettings("ann", SHA, FrameClock(), start_index=100, batch_frames=1, ahead_frames=9)


def speech(seconds: float) -> SpeechChunk:
    return SpeechChunk(np.full(int(16_000 * seconds), 0.1, np.float32), 16_000)


class SegmentHarness:
    """A running segment."""

    def __init__(self, frame_s: float = 0.0) -> None:
        self.time = FakeTime()
        self.infer = FakeInferClient(self.time, frame_s)
        self.segment = SpeechSegment(self.infer, SETTINGS, self.time)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.segment.run())

    async def show(self, frames: int) -> list[int]:
        """Shows frames at 25 frames per second as far as frames are ready; returns their numbers."""
        shown = []
        await self.time.settle()
        for _ in range(frames):
            if self.segment.ready:
                patch, audio = self.segment.next_frame()
                assert len(audio) == 48_000 / self.segment.clock.fps or self.segment.clock.fps == 17
                shown.append(patch.frame)
            await self.time.advance(0.04)
        return shown


@asynccontextmanager
async def running(frame_s: float = 0.0) -> AsyncIterator[SegmentHarness]:
    harness = SegmentHarness(frame_s)
    yield harness
    harness.task.cancel()
    await asyncio.gather(harness.task, return_exceptions=True)


async def test_frames_of_the_audio_and_a_tail_of_silence() -> None:
    async with running() as harness:
        harness.segment.push_audio(speech(1.0))
        harness.segment.end_audio()
        harness.segment.end_audio()
        assert await harness.show(40) == list(range(25 + 6))
        assert harness.segment.done
        assert harness.segment.audio_ended
        await harness.task


async def test_infer_stays_ahead_by_the_credit() -> None:
    async with running() as harness:
        harness.segment.push_audio(speech(4.0))
        await harness.time.advance(0.1)
        assert harness.infer.calls[0].frames == 9, "before the first frame is shown"
        await harness.show(9)
        assert harness.infer.calls[0].frames == 9 + 9
        await harness.show(20)
        assert harness.infer.calls[0].frames - 29 == 16, "the distance grows one by one up to 16 frames"


async def test_starved_after_a_quarter_of_a_second_without_audio() -> None:
    async with running() as harness:
        harness.segment.push_audio(speech(0.4))
        await harness.show(9)
        assert not harness.segment.ready
        harness.segment.push_audio(speech(0.01))
        assert not harness.segment.starved, "the next chunk is only late"
        await harness.show(8)
        assert harness.segment.starved
        harness.segment.end_audio()
        assert not harness.segment.starved


async def test_not_starved_while_infer_is_late() -> None:
    async with running(frame_s=10.0) as harness:
        harness.segment.push_audio(speech(2.0))
        await harness.time.advance(5.0)
        assert not harness.segment.ready
        assert not harness.segment.starved


async def test_room_for_ten_seconds_of_audio() -> None:
    async with running() as harness:
        for _ in range(21):
            harness.segment.push_audio(speech(0.5))
        waiting = asyncio.create_task(harness.segment.wait_for_room())
        await harness.time.settle()
        assert not waiting.done()
        await harness.show(30)
        assert waiting.done()


async def test_delay_of_the_first_frame_is_measured() -> None:
    async with running(frame_s=0.07) as harness:
        assert harness.segment.first_frame_delay_s == 0
        harness.segment.push_audio(speech(1.0))
        await harness.time.advance(0.5)
        assert harness.segment.first_frame_delay_s == pytest.approx(0.07)


@pytest.mark.parametrize(("frame_s", "fps"), [(0.05, 20.0), (0.08, 12.5), (0.02, 0.0), (0.04, 0.0)])
async def test_speed_of_a_slow_infer(frame_s: float, fps: float) -> None:
    async with running(frame_s) as harness:
        harness.segment.push_audio(speech(8.0))
        for _ in range(100):
            await harness.show(1)
            if harness.segment.too_slow_fps:
                break
        assert harness.segment.too_slow_fps == pytest.approx(fps, rel=0.01)


async def test_slow_infer_without_enough_audio_is_not_slow() -> None:
    """The audio arrives in real time: infer cannot be faster than the audio."""
    async with running() as harness:
        for _ in range(50):
            harness.segment.push_audio(speech(0.04))
            await harness.show(1)
            assert not harness.segment.too_slow_fps


async def test_change_of_rate_renders_the_rest_again() -> None:
    """Patches that wait are shown at the old rate; the next call continues with the audio not shown yet."""
    async with running(frame_s=0.05) as harness:
        harness.segment.push_audio(speech(2.0))
        harness.segment.end_audio()
        await harness.time.advance(0.5)
        shown = await harness.show(5)
        assert harness.segment.ready
        harness.segment.change_rate(FrameClock(Fraction(17)))
        while len(harness.infer.calls) == 1:
            shown += await harness.show(1)
        assert shown == list(range(len(shown))), "every patch at the old rate is shown, in order"
        assert harness.segment.clock.fps == 17
        first, second = harness.infer.calls
        assert second.settings.start_index == 100 + len(shown)
        assert second.audio is first.audio, "one store of the audio"
        assert second.audio_start == len(shown) * 640
        assert second.audio_ended
        left = (2.24 - len(shown) / 25) * 17
        assert len(await harness.show(60)) == pytest.approx(left, abs=1)
        assert harness.segment.done


async def test_error_of_infer_ends_the_segment() -> None:
    async with running() as harness:
        harness.segment.push_audio(speech(1.0))
        await harness.show(2)
        harness.infer.calls[0].fail(Unreachable("infer died"))
        with pytest.raises(Unreachable, match="infer died"):
            await harness.show(20)
            await harness.task
        assert not harness.segment.done


async def test_cancelled_segment_drops_the_data() -> None:
    async with running() as harness:
        harness.segment.push_audio(speech(3.0))
        await harness.show(2)
        call = harness.infer.calls[0]
        harness.task.cancel()
        await asyncio.gather(harness.task, return_exceptions=True)
        assert not harness.segment.ready
        assert len(call.audio.read(call.audio.start, 1 << 20)) == 0
        assert harness.segment._frames.audio_ahead_s == 0


async def test_playback_audio_matches_the_input() -> None:
    async with running() as harness:
        tone = np.full(48_000, 0.25, np.float32)
        harness.segment.push_audio(SpeechChunk(tone, 48_000))
        harness.segment.end_audio()
        parts = []
        for _ in range(31):
            await harness.time.settle()
            parts.append(harness.segment.next_frame()[1])
        audio = np.concatenate(parts)
        assert len(audio) == 31 * 1920
        assert np.abs(audio[1000:47_000] - 0.25).max() < 0.01
        assert not audio[49_000:].any()
