"""Interruption: the mouth closes, and the played part of the speech is kept."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.audio import syllables
from tests.rpc.live.client import ConverseClient, seconds, to_duration
from tests.rpc.session.harness import SessionHarness, read_video
from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.compositor import FrameCompositor
from warmtalk.services.session.live.frame_sequencer import FramePlan
from warmtalk.v1 import session_pb2 as pb


async def test_interrupt_closes_the_mouth(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await asyncio.sleep(0.2)
        await client.send_speech(syllables(5.0))
        await client.wait_for("started")
        await asyncio.sleep(0.6)
        called_at = time.monotonic()
        await client.send(interrupt=pb.InterruptNow())
        await client.wait_for("finished")
        await asyncio.sleep(0.4)
        spoken = [event.fragment for event in client.events_of("fragment") if event.fragment.speech]
        began = next(at for at, event in client.events if event.fragment.sequence == 1)
        closed = seconds(spoken[-1].start) + seconds(spoken[-1].duration)
        assert closed - (called_at - began) < 0.4, "0.25 s and room for a busy machine"
        assert client.event_names()[2:] == ["started", "interrupted", "clip_ready", "conversation_updated", "finished"]
        await client.send_speech(syllables(0.5))
        await client.wait_for("finished", 2)
    clips = (await service.conversation()).clips
    played = seconds(client.events_of("interrupted")[0].interrupted.played)
    assert 0.4 < played < 1.2
    assert clips[0].frames == round(played * 25)
    assert len(clips) == 2, "the conversation continues"
    assert service.fake.open <= 1


async def test_interrupt_keeps_what_was_played(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(5.0))
        start = seconds((await client.wait_for("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=to_duration(start + 0.32)))
        interrupted = await client.wait_for("interrupted")
        await client.wait_for("finished")
    assert seconds(interrupted.interrupted.played) == pytest.approx(0.32)
    clip = (await service.conversation()).clips[0]
    assert clip.frames == 8
    kept = read_video(clip.uri)
    assert (len(kept.frames), len(kept.pcm)) == (8, 8 * 1920)


async def test_mouth_that_was_cut_closes_in_the_next_clip(
    service: SessionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the recording the idle frames before the next utterance follow the cut without a jump of the mouth."""
    open_mouths: list[FramePlan | None] = []
    begin = ClipRecorder.begin
    monkeypatch.setattr(ClipRecorder, "begin", lambda *args: open_mouths.append(args[3]) or begin(*args))
    composited: list[FramePlan] = []
    composite = FrameCompositor.composite
    monkeypatch.setattr(
        FrameCompositor, "composite", lambda self, plan: composited.append(plan) or composite(self, plan)
    )
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(5.0))
        start = seconds((await client.wait_for("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=to_duration(start + 0.4)))
        await client.wait_for("finished")
        await asyncio.sleep(1.0)
        await client.send_speech(syllables(0.5))
        await client.wait_for("finished", 2)
    first, cut = open_mouths
    assert first is None
    assert cut is not None
    following = service.fake.configs[0].start_index + 10
    assert cut.source_index == following - 1, "the last frame that was kept"
    closing = {
        plan.source_index: plan.patch_weight
        for plan in composited
        if plan.patch is cut.patch and plan.patch_weight not in (0.0, 1.0)
    }
    assert closing == {following: pytest.approx(2 / 3), following + 1: pytest.approx(1 / 3)}


async def test_interrupt_before_anything_was_played(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await client.send(playback=pb.PlaybackPosition(position=to_duration(0.0)))
        await client.send_speech(syllables(5.0))
        await client.wait_for("started")
        await client.send(interrupt=pb.InterruptNow())
        await client.wait_for("finished")
    assert not (await service.conversation()).clips
    assert service.files() == {"session.json"}


async def test_interrupt_by_a_separate_call(service: SessionHarness) -> None:
    request = pb.InterruptRequest(session_id="s1")
    assert not (await service.stub.Interrupt(request)).HasField("played"), "the session was not speaking"
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(5.0))
        await client.wait_for("started")
        await asyncio.sleep(0.4)
        request.played.CopyFrom(to_duration(0.2))
        assert seconds((await service.stub.Interrupt(request)).played) == pytest.approx(0.2)
        await client.wait_for("finished")
    assert (await service.conversation()).clips[0].frames == 5


async def test_interrupt_of_a_speak(service: SessionHarness) -> None:
    service.fake.frame_s = 0.02
    request = pb.SpeakRequest(session_id="s1", text="word " * 60)
    events = []
    async for event in service.stub.Speak(request):
        events.append(event.WhichOneof("event"))
        if event.progress.frames_done == 20:
            answer = await service.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=to_duration(0.4)))
            assert seconds(answer.played) == pytest.approx(0.4)
    assert events[-4:] == ["interrupted", "clip_ready", "conversation_updated", "finished"]
    assert (await service.conversation()).clips[0].frames == 10
    await service.wait_idle()


async def test_interrupt_of_a_speak_before_anything_was_played(service: SessionHarness) -> None:
    service.fake.hold_at = 3
    call = service.stub.Speak(pb.SpeakRequest(session_id="s1", text="word " * 20))
    await asyncio.wait_for(service.fake.held.wait(), 10)
    answer = await service.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=to_duration(0)))
    assert answer.HasField("played")
    assert seconds(answer.played) == 0
    assert [event.WhichOneof("event") async for event in call][-2:] == ["interrupted", "finished"]
    assert not (await service.conversation()).clips
