"""Several Speaks of one session, and clients that disconnect."""

from __future__ import annotations

import asyncio

import pytest

from tests.rpc.session.harness import Code, SessionHarness, read_video, refused
from warmtalk.v1 import session_pb2 as pb


async def test_first_come_first_served(service: SessionHarness) -> None:
    await service.create()
    texts = ["One one one one one.", "Two.", "Three three."]
    answers = await asyncio.gather(*(service.speak(text=text) for text in texts))
    assert [answer[0].accepted.queued_before for answer in answers] == [0, 1, 2]
    conversation = await service.conversation()
    assert [clip.text for clip in conversation.clips] == texts
    assert len(read_video(conversation.uri).frames) == conversation.frames


async def test_queue_is_bounded(service: SessionHarness) -> None:
    await service.stop()
    await service.start(max_queue=2)
    await service.create()
    service.fake.hold_at = 1
    first = asyncio.create_task(service.speak(text="One two three."))
    await service.fake.held.wait()
    others = [asyncio.create_task(service.speak(text="Four.")) for _ in range(2)]
    await asyncio.sleep(0.2)
    async with refused(Code.RESOURCE_EXHAUSTED, "2 utterances of session 's1' are waiting already"):
        await service.speak(text="Five.")
    service.fake.go.set()
    await asyncio.gather(first, *others)
    assert len((await service.conversation()).clips) == 3


@pytest.mark.parametrize("how", ["reset", "delete"])
async def test_reset_and_delete_abort_the_queue(service: SessionHarness, how: str) -> None:
    await service.create()
    await service.speak(text="Kept words.")
    service.fake.hold_at = 5
    running = asyncio.create_task(service.speak(text="This one is cut off in the middle."))
    await service.fake.held.wait()
    waiting = asyncio.create_task(service.speak(text="This one waits."))
    await asyncio.sleep(0.1)
    assert (await service.session()).state == pb.Session.STATE_SPEAKING
    if how == "reset":
        answer = await asyncio.wait_for(service.stub.Reset(pb.ResetRequest(session_id="s1")), 5)
        assert [clip.text for clip in answer.closed.clips] == ["Kept words."]
        assert len(read_video(answer.closed.uri).frames) == answer.closed.frames
        assert service.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    else:
        await asyncio.wait_for(service.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1")), 5)
        assert service.files() == set()
    for task in (running, waiting):
        async with refused(Code.ABORTED, f"session 's1' was {how}"):
            await task
    service.fake.hold_at = None
    if how == "reset":
        await service.speak(text="New.")
        assert [clip.text for clip in (await service.conversation()).clips] == ["New."]


async def test_client_that_disconnects(service: SessionHarness) -> None:
    await service.create()
    await service.speak(text="Kept words.")
    before = await service.session()
    service.fake.hold_at = 5
    call = service.stub.Speak(pb.SpeakRequest(session_id="s1", text="This one is cut off in the middle."))
    await call.read()
    await service.fake.held.wait()
    waiting = asyncio.create_task(service.speak(text="Next."))
    await asyncio.sleep(0.1)
    call.cancel()
    service.fake.hold_at = None
    await waiting
    await service.wait_idle()
    after = await service.session()
    assert [clip.text for clip in after.conversation.clips] == ["Kept words.", "Next."]
    assert not after.conversation.lost
    assert before.conversation.clips[0] == after.conversation.clips[0]
    clips = ("0001/clip-0001.mp4", "0001/clip-0002.mp4")
    assert service.files() == {"session.json", "0001/conversation.mp4", *clips}
