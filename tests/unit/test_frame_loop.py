"""Tests of the frame loop of a live stream with a fake clock, a fake infer service and a fake compositor."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.live_fakes import FakeCompositor, FakeInferClient, FakeTime, InlineExecutor
from warmtalk.core.ports import SpeechChunk
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import Fragment
from warmtalk.services.session.events import Event, Media, Opened, RateChanged
from warmtalk.services.session.live import frame_loop, rate_control
from warmtalk.services.session.live.frame_loop import FrameLoop
from warmtalk.services.session.live.outbox import EventQueue
from warmtalk.services.session.live.speech_segment import SpeechSegment
from warmtalk.services.session.live.stream_recorder import StreamRecorder
from warmtalk.services.session.pipeline_deps import LiveOptions, PipelineDeps
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ConversationRecord, SessionRecord


def speech(seconds: float) -> SpeechChunk:
    return SpeechChunk(np.full(int(16_000 * seconds), 0.1, np.float32), 16_000)


class LoopHarness:
    """A running frame loop and a client that reads all events."""

    def __init__(self, *, idle: bool, reads: bool, frame_s: float) -> None:
        self.time = FakeTime()
        self.start = self.time.now
        self.infer = FakeInferClient(self.time, frame_s)
        self.compositor = FakeCompositor(self.time)
        record = SessionRecord("s1", "ann", "25", "", ConversationRecord(1, "ultrafast", 23))
        recorder = StreamRecorder(SessionFiles(Path("unused"), record))
        self.queue = EventQueue(recorder.conversation_s)
        deps = PipelineDeps(None, self.infer, X264Settings(), batch_frames=1, max_clip_s=60.0)  # type: ignore[arg-type]
        self.loop = FrameLoop(
            record,
            deps,
            LiveOptions(),
            self.queue,
            recorder,
            idle=idle,
            time_source=self.time,
            open_compositor=lambda *_: self.compositor,  # type: ignore[arg-type,return-value]
        )
        self.events: list[tuple[float, Event]] = []
        self.first_frames: list[float] = []
        self.tasks = [asyncio.create_task(self._run())]
        if reads:
            self.tasks.append(asyncio.create_task(self.read()))

    async def _run(self) -> None:
        await self.loop.open()
        await self.loop.run()

    async def read(self) -> None:
        async for event in self.queue.events():
            self.events.append((self.time.now - self.start, event))

    def speak(self, seconds: float) -> SpeechSegment:
        """Opens a segment with so much audio."""
        segment = self.loop.open_segment(self.first_frames.append)
        self.tasks.append(asyncio.create_task(segment.run()))
        segment.push_audio(speech(seconds))
        return segment

    @property
    def fragments(self) -> list[tuple[float, Fragment]]:
        """(time, fragment) of every frame that the client has read."""
        media = [(at, event.body) for at, event in self.events if isinstance(event.body, Media)]
        return [(at, body.fragment) for at, body in media if body.fragment.number]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.fragments]

    @property
    def rates(self) -> list[int]:
        return [int(event.body.fps) for _, event in self.events if isinstance(event.body, RateChanged)]

    @property
    def indices(self) -> list[int]:
        """Source frames shown so far."""
        return [plan.source_index for plan in self.compositor.plans]


@asynccontextmanager
async def running(*, idle: bool = True, reads: bool = True, frame_s: float = 0.0) -> AsyncIterator[LoopHarness]:
    harness = LoopHarness(idle=idle, reads=reads, frame_s=frame_s)
    await harness.time.settle()
    yield harness
    for task in harness.tasks:
        if task.done() and not task.cancelled():
            task.result()
        task.cancel()
    await asyncio.gather(*harness.tasks, return_exceptions=True)
    await harness.loop.close()
    assert harness.compositor.closed


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_loop, "ThreadPoolExecutor", InlineExecutor)


async def test_frames_come_at_the_pace_of_the_clock() -> None:
    async with running() as harness:
        await harness.time.advance(2.0)
        assert isinstance(harness.events[0][1].body, Opened)
        intervals = [after - before for before, after in itertools.pairwise(harness.times[4:])]
        assert intervals == pytest.approx([0.04] * len(intervals))
        assert len(harness.times) == pytest.approx((2.0 + 0.1) / 0.04, abs=1), "0.1 s ahead of the player"
        assert harness.indices == list(range(len(harness.indices)))


async def test_short_stall_is_caught_up() -> None:
    async with running() as harness:
        harness.compositor.encode_s = {20: 0.3}
        await harness.time.advance(2.0)
        late = harness.times[20]
        assert sum(at == pytest.approx(late) for at in harness.times) >= 5, "the late frames follow at once"
        assert len(harness.times) == pytest.approx((2.0 + 0.1) / 0.04, abs=1), "none is left out"


async def test_long_stall_is_not_caught_up() -> None:
    async with running() as harness:
        harness.compositor.encode_s = {20: 1.0}
        await harness.time.advance(3.0)
        intervals = [after - before for before, after in itertools.pairwise(harness.times[21:])]
        assert intervals == pytest.approx([0.04] * len(intervals), abs=0.021)
        assert len(harness.times) == pytest.approx((2.0 + 0.1) / 0.04, abs=2)


async def test_segment_starts_ahead_of_the_playing_frame() -> None:
    """The lead is the delay of infer so far, less the time until the next frame is due."""
    async with running(frame_s=0.03) as harness:
        await harness.time.advance(1.0)
        playing = harness.indices[-1]
        harness.speak(1.0).end_audio()
        settings = harness.infer.calls[0].settings
        assert 1 <= settings.start_index - playing <= 4
        assert settings.ahead_frames == 9
        await harness.time.advance(2.5)
        assert harness.indices == list(range(len(harness.indices))), "no frame twice, none left out"
        plans = harness.compositor.plans
        first = next(number for number, plan in enumerate(plans) if plan.starts_segment)
        assert plans[first].source_index == settings.start_index
        assert harness.first_frames == [pytest.approx(first * 0.04)]
        assert sum(plan.speech for plan in plans) == 25 + 6 + 4
        await harness.loop.wait_segment_shown()


async def test_idle_frames_wait_for_a_late_segment() -> None:
    """The first patch comes half a second late: the head waits at the frame before, the speech is whole."""
    async with running(frame_s=0.5) as harness:
        await harness.time.advance(1.0)
        harness.speak(0.2).end_audio()
        await harness.time.advance(0.6)
        start = harness.infer.calls[0].settings.start_index
        assert harness.indices[-1] in (start - 1, start)
        assert harness.indices.count(start - 1) > 5
        assert max(harness.indices) <= start


async def test_speech_without_audio_is_held_for_three_frames() -> None:
    async with running() as harness:
        await harness.time.advance(0.5)
        segment = harness.speak(1.0)
        await harness.time.advance(2.5)
        assert segment.audio_ended, "the frame loop ends a segment that waits for audio"
        plans = harness.compositor.plans
        speech_plans = [plan for plan in plans if plan.speech]
        held = [
            before for before, after in itertools.pairwise(speech_plans) if before.source_index == after.source_index
        ]
        assert 3 <= len(held) <= 8, "a quarter of a second may pass before audio counts as missing"
        assert [round(plan.patch_weight, 1) for plan in speech_plans[-4:]] == [0.8, 0.6, 0.4, 0.2]
        assert not plans[-1].speech


async def test_cut_fades_the_mouth_and_the_audio() -> None:
    async with running() as harness:
        await harness.time.advance(0.5)
        harness.speak(5.0)
        await harness.time.advance(1.0)
        shown = len(harness.compositor.plans)
        harness.loop.cut_segment()
        await harness.time.advance(0.5)
        plans = harness.compositor.plans[shown:]
        assert [round(plan.patch_weight, 2) for plan in plans if plan.speech] == [0.67, 0.33]
        assert plans[0].audio[-1] == 0
        assert np.abs(np.diff(plans[0].audio)).max() < 0.01
        await harness.loop.wait_segment_shown()


async def test_slow_infer_lowers_the_rate_and_the_rate_rises_again() -> None:
    async with running(frame_s=0.052) as harness:
        await harness.time.advance(0.5)
        harness.speak(6.0).end_audio()
        await harness.time.advance(12.0)
        assert harness.rates[0] == 17
        lowest = harness.rates[-1]
        silence = [fragment.samples for _, fragment in harness.fragments[-5:]]
        assert all(samples == pytest.approx(48_000 / lowest, abs=1) for samples in silence)
        assert len(harness.infer.calls) == 1 + len(harness.rates)
        harness.infer.frame_s = 0.0
        for _ in range(3):
            harness.speak(0.2).end_audio()
            await harness.time.advance(rate_control._MIN_SLOW_S)
        assert harness.rates[-2:] == [21, 25]


async def test_unread_fragments_stop_the_stream() -> None:
    async with running(reads=False) as harness:
        await harness.time.advance(5.0)
        assert harness.queue.unread_fragments == 9
        frames = len(harness.compositor.plans)
        await harness.time.advance(5.0)
        assert len(harness.compositor.plans) == frames, "nothing is rendered for a client that does not read"
        harness.tasks.append(asyncio.create_task(harness.read()))
        await harness.time.advance(1.0)
        assert harness.indices == list(range(len(harness.indices)))
        assert len(harness.indices) == pytest.approx(frames + 25, abs=2), "the stream continues at the usual pace"


async def test_player_position_limits_the_stream() -> None:
    async with running() as harness:
        harness.loop.set_playback_position(-9.0)
        await harness.time.advance(4.0)
        assert 1.0 < len(harness.indices) * 0.04 <= 1.1
        harness.loop.set_playback_position(-8.5)
        await harness.time.advance(4.0)
        assert 1.5 < len(harness.indices) * 0.04 <= 1.6


async def test_stream_without_idle_frames_stands_still() -> None:
    async with running(idle=False) as harness:
        await harness.time.advance(2.0)
        assert not harness.compositor.plans
        harness.speak(0.4).end_audio()
        await harness.time.advance(2.0)
        assert len(harness.compositor.plans) == 10 + 6 + 4
        assert harness.infer.calls[0].settings.start_index == 0, "no lead without idle frames"
        intervals = [after - before for before, after in itertools.pairwise(harness.times[6:])]
        assert intervals == pytest.approx([0.04] * len(intervals), abs=0.021)


async def test_run_ends_after_the_speech() -> None:
    async with running() as harness:
        harness.speak(0.4).end_audio()
        harness.loop.end_input()
        await harness.time.advance(2.0)
        assert harness.tasks[0].done()
        assert len([plan for plan in harness.compositor.plans if plan.speech]) == 10 + 6 + 4
