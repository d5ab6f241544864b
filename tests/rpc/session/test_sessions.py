"""Sessions are created, listed, reset and deleted."""

from __future__ import annotations

import asyncio

from tests.fakes import make_avatar
from tests.rpc.session.harness import Code, SessionHarness, read_video, refused
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.media_pb2 import FrameRate


async def test_create_twice(service: SessionHarness) -> None:
    make_avatar(service.data / "avatars", "bob", fps="30")
    first = await service.create()
    assert await service.create() == first
    await asyncio.sleep(0.05)
    assert service.fake.warmed == ["ann"], "the avatar is warmed once, before the first Speak"
    async with refused(Code.ALREADY_EXISTS, "session 's1' already exists with avatar 'ann'"):
        await service.create("s1", "bob")
    other = await service.create("", "bob")
    assert other.session_id.startswith("s-")
    assert other.frame_rate == FrameRate(numerator=30, denominator=1)
    with_rate = pb.CreateSessionRequest(session_id="s1", avatar_id="ann", frame_rate=FrameRate(numerator=30))
    async with refused(Code.ALREADY_EXISTS, "session 's1' already exists with 25 fps"):
        await service.stub.CreateSession(with_rate)
    with_rate.frame_rate.numerator = 61
    async with refused(Code.INVALID_ARGUMENT, "frame_rate is 61. Use 1 to 60"):
        await service.stub.CreateSession(with_rate)


async def test_list_pages(service: SessionHarness) -> None:
    for number in range(5):
        await service.create(f"s{number}")
    seen: list[str] = []
    token = ""
    while True:
        page = await service.stub.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
        assert len(page.sessions) <= 2
        seen += [session.session_id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    async with refused(Code.INVALID_ARGUMENT, "page_token is not one of this service"):
        await service.stub.ListSessions(pb.ListSessionsRequest(page_token="%%%"))
    async with refused(Code.INVALID_ARGUMENT, "page_size is -1. Use 1 to 1000"):
        await service.stub.ListSessions(pb.ListSessionsRequest(page_size=-1))


async def test_reset_and_delete(service: SessionHarness) -> None:
    await service.create()
    empty = await service.stub.Reset(pb.ResetRequest(session_id="s1"))
    assert not empty.HasField("closed")
    assert empty.session.conversation.number == 1
    await service.speak(text="One two three.")
    answer = await service.stub.Reset(pb.ResetRequest(session_id="s1"))
    assert len(read_video(answer.closed.uri).frames) == answer.closed.frames == 8
    assert answer.session.conversation.number == 2
    assert not answer.session.conversation.clips
    assert await service.stub.Reset(pb.ResetRequest(session_id="s1")) == pb.ResetResponse(session=answer.session)
    await service.speak(text="Four.")
    answer = await service.stub.Reset(pb.ResetRequest(session_id="s1", delete_conversation=True))
    assert not answer.HasField("closed")
    assert [one.number for one in answer.session.archived] == [1]
    await service.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
    assert not (service.data / "sessions" / "s1").exists()
    async with refused(Code.NOT_FOUND, "there is no session 's1'"):
        await service.session()
