"""Several Speaks of one session, and clients that go away."""

from __future__ import annotations

import asyncio

import pytest

from tests.rpc.session.harness import Code, SessionHarness, film, refused
from warmtalk.v1 import session_pb2 as pb


async def test_in_the_order_they_came(desk: SessionHarness) -> None:
    await desk.create()
    texts = ["One one one one one.", "Two.", "Three three."]
    answers = await asyncio.gather(*(desk.say(text=text) for text in texts))
    assert [answer[0].accepted.queued_before for answer in answers] == [0, 1, 2]
    conversation = await desk.conversation()
    assert [clip.text for clip in conversation.clips] == texts
    assert len(film(conversation.uri).pictures) == conversation.frames


async def test_too_many_wait(desk: SessionHarness) -> None:
    await desk.stop()
    await desk.start(max_queue=2)
    await desk.create()
    desk.fake.hold_at = 1
    first = asyncio.create_task(desk.say(text="One two three."))
    await desk.fake.held.wait()
    others = [asyncio.create_task(desk.say(text="Four.")) for _ in range(2)]
    await asyncio.sleep(0.2)
    async with refused(Code.RESOURCE_EXHAUSTED, "2 utterances of session 's1' are waiting already"):
        await desk.say(text="Five.")
    desk.fake.go.set()
    await asyncio.gather(first, *others)
    assert len((await desk.conversation()).clips) == 3


@pytest.mark.parametrize("how", ["reset", "delete"])
async def test_reset_and_delete_end_what_is_said(desk: SessionHarness, how: str) -> None:
    await desk.create()
    await desk.say(text="Kept words.")
    desk.fake.hold_at = 5
    running = asyncio.create_task(desk.say(text="This one is cut off in the middle."))
    await desk.fake.held.wait()
    waiting = asyncio.create_task(desk.say(text="This one waits."))
    await asyncio.sleep(0.1)
    assert (await desk.session()).state == pb.Session.STATE_SPEAKING
    if how == "reset":
        answer = await asyncio.wait_for(desk.stub.Reset(pb.ResetRequest(session_id="s1")), 5)
        assert [clip.text for clip in answer.closed.clips] == ["Kept words."]
        assert len(film(answer.closed.uri).pictures) == answer.closed.frames
        assert desk.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    else:
        await asyncio.wait_for(desk.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1")), 5)
        assert desk.files() == set()
    for task in (running, waiting):
        async with refused(Code.ABORTED, f"session 's1' was {how}"):
            await task
    desk.fake.hold_at = None
    if how == "reset":
        await desk.say(text="New.")
        assert [clip.text for clip in (await desk.conversation()).clips] == ["New."]


async def test_client_that_goes_away(desk: SessionHarness) -> None:
    await desk.create()
    await desk.say(text="Kept words.")
    before = await desk.session()
    desk.fake.hold_at = 5
    call = desk.stub.Speak(pb.SpeakRequest(session_id="s1", text="This one is cut off in the middle."))
    await call.read()
    await desk.fake.held.wait()
    waiting = asyncio.create_task(desk.say(text="Next."))
    await asyncio.sleep(0.1)
    call.cancel()
    desk.fake.hold_at = None
    await waiting
    await desk.idle()
    after = await desk.session()
    assert [clip.text for clip in after.conversation.clips] == ["Kept words.", "Next."]
    assert not after.conversation.lost
    assert before.conversation.clips[0] == after.conversation.clips[0]
    clips = ("0001/clip-0001.mp4", "0001/clip-0002.mp4")
    assert desk.files() == {"session.json", "0001/conversation.mp4", *clips}
