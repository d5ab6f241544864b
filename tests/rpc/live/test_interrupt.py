"""Interruption: the mouth closes, and what was played is kept."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.audio import syllables
from tests.rpc.live.client import Client, lasting, seconds
from tests.rpc.session.harness import SessionHarness, film
from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.compositor import FrameCompositor
from warmtalk.services.session.live.frame_sequencer import FramePlan
from warmtalk.v1 import session_pb2 as pb


async def test_interrupt_closes_the_mouth(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await asyncio.sleep(0.2)
        await client.say(syllables(5.0))
        await client.until("started")
        await asyncio.sleep(0.6)
        called = time.monotonic()
        await client.send(interrupt=pb.InterruptNow())
        await client.until("finished")
        await asyncio.sleep(0.4)
        spoken = [event.fragment for event in client.of("fragment") if event.fragment.speech]
        began = next(at for at, event in client.events if event.fragment.sequence == 1)
        closed = seconds(spoken[-1].start) + seconds(spoken[-1].duration)
        assert closed - (called - began) < 0.4, "0.25 s and room for a busy machine"
        assert client.kinds()[2:] == ["started", "interrupted", "clip_ready", "conversation_updated", "finished"]
        await client.say(syllables(0.5))
        await client.until("finished", 2)
    clips = (await desk.conversation()).clips
    played = seconds(client.of("interrupted")[0].interrupted.played)
    assert 0.4 < played < 1.2
    assert clips[0].frames == round(played * 25)
    assert len(clips) == 2, "it goes on"
    assert desk.fake.open <= 1


async def test_interrupt_keeps_what_was_played(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        start = seconds((await client.until("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=lasting(start + 0.32)))
        interrupted = await client.until("interrupted")
        await client.until("finished")
    assert seconds(interrupted.interrupted.played) == pytest.approx(0.32)
    clip = (await desk.conversation()).clips[0]
    assert clip.frames == 8
    kept = film(clip.uri)
    assert (len(kept.pictures), len(kept.pcm)) == (8, 8 * 1920)


async def test_a_mouth_that_was_cut_closes_in_the_next_clip(
    desk: SessionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording has the cut, and then the idle pictures before the next utterance: no snap between them."""
    open_mouths: list[FramePlan | None] = []
    begin = ClipRecorder.begin
    monkeypatch.setattr(ClipRecorder, "begin", lambda *args: open_mouths.append(args[3]) or begin(*args))
    drawn: list[FramePlan] = []
    composite = FrameCompositor.composite
    monkeypatch.setattr(FrameCompositor, "composite", lambda self, plan: drawn.append(plan) or composite(self, plan))
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        start = seconds((await client.until("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=lasting(start + 0.4)))
        await client.until("finished")
        await asyncio.sleep(1.0)
        await client.say(syllables(0.5))
        await client.until("finished", 2)
    first, cut = open_mouths
    assert first is None
    assert cut is not None
    following = desk.fake.configs[0].start_index + 10
    assert cut.source_index == following - 1, "the last picture that was kept"
    shut = {
        plan.source_index: plan.patch_weight
        for plan in drawn
        if plan.patch is cut.patch and plan.patch_weight not in (0.0, 1.0)
    }
    assert shut == {following: pytest.approx(2 / 3), following + 1: pytest.approx(1 / 3)}


async def test_interrupt_of_what_was_not_heard_yet(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await client.send(playback=pb.PlaybackPosition(position=lasting(0.0)))
        await client.say(syllables(5.0))
        await client.until("started")
        await client.send(interrupt=pb.InterruptNow())
        await client.until("finished")
    assert not (await desk.conversation()).clips
    assert desk.files() == {"session.json"}


async def test_interrupt_by_its_own_call(desk: SessionHarness) -> None:
    request = pb.InterruptRequest(session_id="s1")
    assert not (await desk.stub.Interrupt(request)).HasField("played"), "nothing was being said"
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        await client.until("started")
        await asyncio.sleep(0.4)
        request.played.CopyFrom(lasting(0.2))
        assert seconds((await desk.stub.Interrupt(request)).played) == pytest.approx(0.2)
        await client.until("finished")
    assert (await desk.conversation()).clips[0].frames == 5


async def test_interrupt_of_a_speak(desk: SessionHarness) -> None:
    desk.fake.frame_s = 0.02
    request = pb.SpeakRequest(session_id="s1", text="word " * 60)
    events = []
    async for event in desk.stub.Speak(request):
        events.append(event.WhichOneof("event"))
        if event.progress.frames_done == 20:
            answer = await desk.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=lasting(0.4)))
            assert seconds(answer.played) == pytest.approx(0.4)
    assert events[-4:] == ["interrupted", "clip_ready", "conversation_updated", "finished"]
    assert (await desk.conversation()).clips[0].frames == 10
    await desk.idle()


async def test_interrupt_of_a_speak_before_anything_was_played(desk: SessionHarness) -> None:
    desk.fake.hold_at = 3
    call = desk.stub.Speak(pb.SpeakRequest(session_id="s1", text="word " * 20))
    await asyncio.wait_for(desk.fake.held.wait(), 10)
    answer = await desk.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=lasting(0)))
    assert answer.HasField("played")
    assert seconds(answer.played) == 0
    assert [event.WhichOneof("event") async for event in call][-2:] == ["interrupted", "finished"]
    assert not (await desk.conversation()).clips
