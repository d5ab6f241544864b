"""The session service through its front door: a real server, real ffmpeg, PyAV reads; infer and voice are fakes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import grpc
import numpy as np
import pytest

from services.session.wiring import Parts, build
from tests.fakes import FakeInfer, FakeVoice, make_avatar, serve_infer
from tests.media import Film, read
from tests.sounds import SPEECH, syllables, wav
from warmtalk.config import Config, SessionConfig
from warmtalk.core.errors import NotFound, Unreachable
from warmtalk.media import ffmpeg as found
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.rpc.server import Server
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.media_pb2 import FrameRate
from warmtalk.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

Code = grpc.StatusCode


class Desk:
    """A running service, its client, and what stands behind it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.fake = FakeInfer()
        self.voice = FakeVoice()
        self.config = SessionConfig(listen="127.0.0.1:0", x264_preset="ultrafast")
        self.infer: Server | None = None
        self.parts: Parts | None = None
        self.stub: SessionServiceAsyncStub
        self._link: grpc.aio.Channel

    async def start(self, **changes: object) -> None:
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        if self.infer is None:
            await self.start_infer()
        assert self.infer is not None
        config = Config(data_dir=self.data, session=replace(self.config, infer=self.infer.address))
        self.parts = build(config, self.voice)
        await self.parts.start()
        self._link = channel(self.parts.server.address)
        self.stub = SessionServiceStub(self._link)

    async def start_infer(self, listen: str = "127.0.0.1:0") -> None:
        self.infer = await serve_infer(self.fake, listen)

    async def stop_infer(self) -> str:
        assert self.infer is not None
        await self.infer.stop(0)
        return self.infer.address

    async def stop(self) -> None:
        if self.parts is not None:
            await self._link.close()
            await self.parts.server.stop(0)
            await self.parts.close()
            self.parts = None

    async def close(self) -> None:
        await self.stop()
        if self.infer is not None:
            await self.infer.stop(0)

    async def create(self, session_id: str = "s1", avatar_id: str = "ann") -> pb.Session:
        request = pb.CreateSessionRequest(session_id=session_id, avatar_id=avatar_id)
        return (await self.stub.CreateSession(request)).session

    async def say(self, session_id: str = "s1", *, text: str = "", audio: bytes = b"") -> list[pb.SpeakResponse]:
        request = pb.SpeakRequest(session_id=session_id)
        if audio:
            request.audio = audio
        else:
            request.text = text
        return [event async for event in self.stub.Speak(request)]

    async def conversation(self, session_id: str = "s1") -> pb.Conversation:
        return (await self.session(session_id)).conversation

    async def session(self, session_id: str = "s1") -> pb.Session:
        return (await self.stub.GetSession(pb.GetSessionRequest(session_id=session_id))).session

    async def idle(self) -> None:
        """Until nobody speaks and infer has no stream."""
        for _ in range(200):
            session = await self.session()
            if session.state == pb.Session.STATE_IDLE and not self.fake.open:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the session does not come to rest")

    def files(self, session_id: str = "s1") -> set[str]:
        root = self.data / "sessions" / session_id
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    make_avatar(tmp_path / "avatars")
    made = Desk(tmp_path)
    await made.start()
    yield made
    await made.close()


@asynccontextmanager
async def refused(code: grpc.StatusCode, *parts: str) -> AsyncIterator[None]:
    """The block fails with this code and every part in its message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    for part in parts:
        assert part in (caught.value.details() or "")


def kinds(events: list[pb.SpeakResponse]) -> list[str]:
    """Names of the events, progress once."""
    names = [event.WhichOneof("event") or "" for event in events]
    return [name for place, name in enumerate(names) if name != "progress" or names[place - 1] != "progress"]


def film(uri: str) -> Film:
    parsed = urlparse(uri)
    assert parsed.scheme == "file"
    return read(Path(unquote(parsed.path)))


STEPS = ["accepted", "started", "progress", "clip_ready", "conversation_updated", "finished"]


# --- what it is for ------------------------------------------------------------------------------------------------


async def test_text_then_sound(desk: Desk) -> None:
    await desk.create()
    events = await desk.say(text="Hello there, my friend. How are you? 😀")
    assert kinds(events) == STEPS
    assert (events[0].accepted.sentences, events[0].accepted.queued_before) == (2, 0)
    assert desk.voice.said == ["Hello there, my friend.", "How are you?"]
    times = [event.conversation_time.ToTimedelta().total_seconds() for event in events]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(0.72), "7 words of 0.1 s, in whole frames"
    assert events[-1].finished.frames == 18

    assert kinds(await desk.say(audio=wav(SPEECH))) == STEPS
    conversation = await desk.conversation()
    assert [(clip.number, clip.first_frame, clip.frames) for clip in conversation.clips] == [(1, 0, 18), (2, 18, 50)]
    assert [clip.text for clip in conversation.clips] == ["Hello there, my friend. How are you? 😀", ""]
    assert (conversation.frames, conversation.samples) == (68, 68 * 1920)
    assert [config.start_index for config in desk.fake.configs] == [0, 18], "the head does not jump"
    whole = film(conversation.uri)
    assert len(whole.pictures) == 68
    pcm = np.concatenate([film(clip.uri).pcm for clip in conversation.clips])
    assert np.array_equal(whole.pcm, pcm)
    for number, picture in enumerate(whole.pictures):
        assert abs(int(picture[24, 24].mean()) - (50 + number)) < 8, "the patch of this frame"
        row = number % 14 if number % 14 < 7 else 13 - number % 14
        assert abs(int(picture[56, 80].mean()) - (40 + 20 * row)) < 8, "on the source frame of this index"


async def test_twenty_clips(desk: Desk) -> None:
    """Picture and sound of a long conversation end within a sample of each other."""
    request = pb.CreateSessionRequest(
        session_id="s1", avatar_id="ann", frame_rate=FrameRate(numerator=30000, denominator=1001)
    )
    await desk.stub.CreateSession(request)
    lengths = [1, 533, 534, 1068, 1600, 2400, 3000, 5000, 100, 16, 801, 802, 4000, 267, 9000, 533, 534, 535, 1601, 7]
    for length in lengths:
        await desk.say(audio=wav(syllables(1)[:length]))
    conversation = await desk.conversation()
    assert len(conversation.clips) == 20
    whole = film(conversation.uri)
    assert whole.times == [pytest.approx(number * 1001 / 30000, abs=1e-9) for number in range(conversation.frames)]
    assert len(whole.pcm) == conversation.samples
    assert abs(conversation.samples - conversation.frames * 1601.6) <= 1
    assert np.array_equal(whole.pcm, np.concatenate([film(clip.uri).pcm for clip in conversation.clips]))
    for clip, length in zip(conversation.clips, lengths, strict=True):
        assert clip.samples >= length * 3
        assert clip.samples - length * 3 < 1602 + 2
    assert desk.fake.samples == [int(clip.frames * 1001 * 16000 / 30000) for clip in conversation.clips]


async def test_first_picture_before_the_last_word(desk: Desk) -> None:
    """The second sentence is held back in the voice while the first is on screen."""
    gate = asyncio.Event()

    class SlowVoice(FakeVoice):
        async def speak(self, sentence: str):  # type: ignore[no-untyped-def]
            if sentence.startswith("Second"):
                await gate.wait()
            async for piece in super().speak(sentence):
                yield piece

    await desk.stop()
    desk.voice = SlowVoice()
    await desk.start()
    await desk.create()
    call = desk.stub.Speak(pb.SpeakRequest(session_id="s1", text="First one here. Second one."))
    seen = []
    async for event in call:
        seen.append(event.WhichOneof("event"))
        if seen[-1] == "started":
            gate.set()
    assert seen[-1] == "finished"
    assert desk.voice.said == ["First one here.", "Second one."]


async def test_long_sound_with_credit(desk: Desk) -> None:
    """More than the credit and more than is sent ahead: nothing waits for itself."""
    await desk.create()
    events = await asyncio.wait_for(desk.say(audio=wav(syllables(60))), 60)
    assert events[-1].finished.frames == 1500


async def test_mixed_scripts_and_long_text(desk: Desk) -> None:
    await desk.create()
    events = await desk.say(text="Hello. 你好。नमस्ते। مرحبا؟ Привет!")
    assert events[0].accepted.sentences == 5
    async with refused(Code.INVALID_ARGUMENT, "text has 20000 characters. Send at most 5000"):
        await desk.say(text="a word " * 2857 + "x")


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text is empty. Send a text or a sound"),
        (" \n ", "text is empty"),
        ("😀🎉", "text has no letter or digit to say"),
        ("?!...", "text has no letter or digit to say"),
    ],
)
async def test_text_that_cannot_be_said(desk: Desk, text: str, message: str) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await desk.say(text=text)
    assert desk.files() == {"session.json"}


async def test_neither_text_nor_sound(desk: Desk) -> None:
    await desk.create()
    for request in (pb.SpeakRequest(session_id="s1"), pb.SpeakRequest(session_id="s1", audio=b"")):
        async with refused(Code.INVALID_ARGUMENT, "audio"):
            _ = [event async for event in desk.stub.Speak(request)]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"not a sound at all", "the sound is of an unknown kind. Send a wav, mp3, flac or ogg file"),
        (wav(np.zeros(0, np.float32)), "the sound has no samples"),
        (wav(SPEECH)[:5000], "the wav file is cut short"),
    ],
)
async def test_sound_that_cannot_be_said(desk: Desk, audio: bytes, message: str) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await desk.say(audio=audio)
    assert desk.files() == {"session.json"}
    assert not desk.fake.configs, "nobody was bothered with it"


async def test_sound_of_too_many_bytes(desk: Desk) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, "audio has 31457281 bytes. Send at most 31457280"):
        await desk.say(audio=bytes((30 << 20) + 1))


async def test_sound_longer_than_the_limit(desk: Desk) -> None:
    await desk.stop()
    await desk.start(max_clip_s=3.0)
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, "the sound is longer than 3 s. Send it in shorter parts"):
        await desk.say(audio=wav(syllables(3.1)))
    async with refused(Code.INVALID_ARGUMENT, "the text takes longer than 3 s to say. Send it in parts"):
        await desk.say(text="word " * 31)
    assert desk.files() == {"session.json"}
    await desk.say(audio=wav(syllables(3.0)))


@pytest.mark.parametrize("rate", [8_000, 192_000])
async def test_sound_shorter_than_a_frame(desk: Desk, rate: int) -> None:
    await desk.create()
    events = await desk.say(audio=wav(np.full(5, 0.5, np.float32), rate))
    assert events[-1].finished.frames == 1
    conversation = await desk.conversation()
    assert (conversation.frames, conversation.samples) == (1, 1920)


async def test_sound_cut_while_it_is_loud_fades(desk: Desk) -> None:
    await desk.create()
    await desk.say(audio=wav(np.full(5000, 0.5, np.float32), 48_000))
    pcm = film((await desk.conversation()).uri).pcm.astype(int)
    assert len(pcm) == 3 * 1920
    assert (pcm[:4850] == pcm[0]).all()
    assert np.abs(np.diff(pcm)).max() < 200, "no click"
    assert not pcm[5000:].any()


@pytest.mark.parametrize("bad", ["..", "/", "a/b", "a\0b", "a" * 300, "A", "-a", "", "ä", "a\n"])
async def test_bad_session_ids(desk: Desk, bad: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: desk.stub.GetSession(pb.GetSessionRequest(session_id=bad)),
        lambda: desk.stub.DeleteSession(pb.DeleteSessionRequest(session_id=bad)),
        lambda: desk.stub.Reset(pb.ResetRequest(session_id=bad)),
        lambda: desk.say(bad, text="Hello."),
    ]
    if bad:
        calls.append(lambda: desk.create(bad))
    for call in calls:
        async with refused(Code.INVALID_ARGUMENT, "session_id is", "Use 1 to 63 of a-z, 0-9, '_' and '-'"):
            await call()  # type: ignore[misc]


async def test_unknown_session(desk: Desk) -> None:
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await desk.say("nobody", text="Hello.")


async def test_avatars_that_cannot_speak(desk: Desk) -> None:
    async with refused(Code.INVALID_ARGUMENT, "avatar_id is missing"):
        await desk.create("s1", "")
    async with refused(Code.NOT_FOUND, "there is no avatar 'bob' (there are: ann)"):
        await desk.create("s1", "bob")
    (desk.data / "avatars" / ".building" / "bob").mkdir(parents=True)
    async with refused(Code.FAILED_PRECONDITION, "avatar 'bob' is still being built"):
        await desk.create("s1", "bob")
    shutil.copytree(desk.data / "avatars" / "ann", desk.data / "avatars" / "torn")
    (desk.data / "avatars" / "torn" / "faces.safetensors").write_bytes(b"x" * 100)
    async with refused(Code.DATA_LOSS, "avatar 'torn' is damaged: faces.safetensors cannot be read"):
        await desk.create("s1", "torn")
    assert not (desk.data / "sessions").exists()


async def test_avatar_damaged_after_the_session_was_made(desk: Desk) -> None:
    await desk.create()
    await desk.stop()
    (desk.data / "avatars" / "ann" / "frames" / "00000.mp4").write_bytes(b"")
    await desk.start()
    async with refused(Code.DATA_LOSS, "avatar 'ann' is damaged: 00000.mp4 holds 0 frames, not 7"):
        await desk.say(text="Hello.")
    shutil.rmtree(desk.data / "avatars" / "ann")
    async with refused(Code.NOT_FOUND, "there is no avatar 'ann'"):
        await desk.say(text="Hello.")
    assert desk.files() == {"session.json"}


# --- sessions ------------------------------------------------------------------------------------------------------


async def test_create_twice(desk: Desk) -> None:
    make_avatar(desk.data / "avatars", "bob", fps="30")
    first = await desk.create()
    assert await desk.create() == first
    await asyncio.sleep(0.05)
    assert desk.fake.warmed == ["ann"], "made warm once, before the first Speak"
    async with refused(Code.ALREADY_EXISTS, "session 's1' is there with avatar 'ann'"):
        await desk.create("s1", "bob")
    other = await desk.create("", "bob")
    assert other.session_id.startswith("s-")
    assert other.frame_rate == FrameRate(numerator=30, denominator=1)
    with_rate = pb.CreateSessionRequest(session_id="s1", avatar_id="ann", frame_rate=FrameRate(numerator=30))
    async with refused(Code.ALREADY_EXISTS, "session 's1' is there with 25 fps"):
        await desk.stub.CreateSession(with_rate)
    with_rate.frame_rate.numerator = 61
    async with refused(Code.INVALID_ARGUMENT, "frame_rate is 61. Use 1 to 60"):
        await desk.stub.CreateSession(with_rate)


async def test_list_pages(desk: Desk) -> None:
    for number in range(5):
        await desk.create(f"s{number}")
    seen: list[str] = []
    token = ""
    while True:
        page = await desk.stub.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
        assert len(page.sessions) <= 2
        seen += [session.session_id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    async with refused(Code.INVALID_ARGUMENT, "page_token is not one of this service"):
        await desk.stub.ListSessions(pb.ListSessionsRequest(page_token="%%%"))
    async with refused(Code.INVALID_ARGUMENT, "page_size is -1. Use 1 to 1000"):
        await desk.stub.ListSessions(pb.ListSessionsRequest(page_size=-1))


async def test_reset_and_delete(desk: Desk) -> None:
    await desk.create()
    empty = await desk.stub.Reset(pb.ResetRequest(session_id="s1"))
    assert not empty.HasField("closed")
    assert empty.session.conversation.number == 1
    await desk.say(text="One two three.")
    answer = await desk.stub.Reset(pb.ResetRequest(session_id="s1"))
    assert len(film(answer.closed.uri).pictures) == answer.closed.frames == 8
    assert answer.session.conversation.number == 2
    assert not answer.session.conversation.clips
    assert await desk.stub.Reset(pb.ResetRequest(session_id="s1")) == pb.ResetResponse(session=answer.session)
    await desk.say(text="Four.")
    answer = await desk.stub.Reset(pb.ResetRequest(session_id="s1", delete_conversation=True))
    assert not answer.HasField("closed")
    assert [one.number for one in answer.session.archived] == [1]
    await desk.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
    assert not (desk.data / "sessions" / "s1").exists()
    async with refused(Code.NOT_FOUND, "there is no session 's1'"):
        await desk.session()


# --- several at once -----------------------------------------------------------------------------------------------


async def test_in_the_order_they_came(desk: Desk) -> None:
    await desk.create()
    texts = ["One one one one one.", "Two.", "Three three."]
    answers = await asyncio.gather(*(desk.say(text=text) for text in texts))
    assert [answer[0].accepted.queued_before for answer in answers] == [0, 1, 2]
    conversation = await desk.conversation()
    assert [clip.text for clip in conversation.clips] == texts
    assert len(film(conversation.uri).pictures) == conversation.frames


async def test_too_many_wait(desk: Desk) -> None:
    await desk.stop()
    await desk.start(max_queue=2)
    await desk.create()
    desk.fake.hold_at = 1
    first = asyncio.create_task(desk.say(text="One two three."))
    await desk.fake.held.wait()
    others = [asyncio.create_task(desk.say(text="Four.")) for _ in range(2)]
    await asyncio.sleep(0.2)
    async with refused(Code.RESOURCE_EXHAUSTED, "2 utterances of session 's1' wait already"):
        await desk.say(text="Five.")
    desk.fake.go.set()
    await asyncio.gather(first, *others)
    assert len((await desk.conversation()).clips) == 3


@pytest.mark.parametrize("how", ["reset", "delete"])
async def test_reset_and_delete_end_what_is_said(desk: Desk, how: str) -> None:
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


async def test_client_that_goes_away(desk: Desk) -> None:
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


# --- what breaks ---------------------------------------------------------------------------------------------------


async def test_infer_down(desk: Desk) -> None:
    await desk.create()
    address = await desk.stop_infer()
    async with refused(Code.UNAVAILABLE, "the infer service does not answer", "warmtalk up"):
        await desk.say(text="Hello.")
    assert desk.files() == {"session.json"}
    await desk.start_infer(address)
    await asyncio.sleep(0.5)
    await desk.say(text="Hello again.")
    assert len((await desk.conversation()).clips) == 1


async def test_infer_dies_once_in_the_middle(desk: Desk) -> None:
    """The clip goes on from the frame it had; nothing is missing and nothing shows twice."""
    await desk.create()
    desk.fake.die_at = [37]
    events = await desk.say(audio=wav(syllables(3.0)))
    assert events[-1].finished.frames == 75
    first, second = (config.start_index for config in desk.fake.configs)
    assert first == 0
    assert second <= 37 - 25, "a second of sound is heard again; grpc may drop frames that were under way"
    pictures = film((await desk.conversation()).uri).pictures
    assert all(abs(int(picture[24, 24].mean()) - (50 + number)) < 8 for number, picture in enumerate(pictures))


async def test_infer_is_restarted_in_the_middle(desk: Desk) -> None:
    await desk.create()
    desk.fake.hold_at = 40
    running = asyncio.create_task(desk.say(audio=wav(syllables(3.0))))
    await desk.fake.held.wait()
    address = await desk.stop_infer()
    desk.fake.hold_at = None
    await asyncio.sleep(0.5)
    await desk.start_infer(address)
    assert (await running)[-1].finished.frames == 75
    pictures = film((await desk.conversation()).uri).pictures
    assert all(abs(int(picture[24, 24].mean()) - (50 + number)) < 8 for number, picture in enumerate(pictures))


async def test_infer_goes_away_in_the_middle(desk: Desk) -> None:
    await desk.create()
    desk.fake.hold_at = 40
    running = asyncio.create_task(desk.say(audio=wav(syllables(3.0))))
    await desk.fake.held.wait()
    await desk.stop_infer()
    async with refused(Code.UNAVAILABLE, "infer service"):
        await asyncio.wait_for(running, 10)
    assert desk.files() == {"session.json"}


async def test_infer_dies_and_stays_dead(desk: Desk) -> None:
    await desk.create()
    await desk.say(text="Kept words.")
    before = await desk.conversation()
    desk.fake.die_at = [10, 10]
    async with refused(Code.UNAVAILABLE, "infer service"):
        await desk.say(audio=wav(syllables(3.0)))
    assert await desk.conversation() == before
    assert desk.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


async def test_infer_refuses(desk: Desk) -> None:
    await desk.create()
    desk.fake.error = NotFound("there is no avatar 'ann'", "Make it")
    async with refused(Code.NOT_FOUND, "there is no avatar 'ann'. Make it"):
        await desk.say(text="Hello.")
    assert len(desk.fake.configs) == 1, "it is not asked again"


async def test_voice_fails(desk: Desk) -> None:
    await desk.create()
    desk.voice.error = Unreachable("the voice stopped working", "Its log says more")
    async with refused(Code.UNAVAILABLE, "the voice stopped working"):
        await desk.say(text="Hello.")
    assert desk.files() == {"session.json"}
    desk.voice.error = None
    await desk.say(text="Hello.")


async def test_voice_says_nothing(desk: Desk) -> None:
    class Mute(FakeVoice):
        async def speak(self, sentence: str):  # type: ignore[no-untyped-def]
            for piece in ():
                yield piece

    await desk.stop()
    desk.voice = Mute()
    await desk.start()
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, "the voice finds nothing to say in this text"):
        await desk.say(text="Hello.")


async def test_disk_full(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's volume has room for half a clip."""
    await desk.create()
    await desk.say(text="Kept words.")
    whole = film((await desk.conversation()).uri)
    script = desk.data / "small-ffmpeg"
    script.write_text(f'#!/bin/sh\nulimit -f 2\nexec {found.ffmpeg()} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", str(script))
        found.ffmpeg.cache_clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.say(audio=wav(syllables(3.0)))
        sound_check_failed = "cut short" in (caught.value.details() or "")
        assert not sound_check_failed
    found.ffmpeg.cache_clear()
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert "the volume is full" in (caught.value.details() or "")
    conversation = await desk.conversation()
    assert len(conversation.clips) == 1
    assert [(one.text, one.reason[:18]) for one in conversation.lost] == [("", "the volume is full")]
    assert desk.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    assert np.array_equal(film(conversation.uri).pcm, whole.pcm)
    await desk.say(text="Room again.")


async def test_ffmpeg_missing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.create()
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", "")
        patch.setenv("PATH", "")
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        found.ffmpeg.cache_clear()
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing. Install it: pip install imageio-ffmpeg"):
            await desk.say(text="Hello.")
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing"):
            await desk.say(audio=wav(SPEECH))
    found.ffmpeg.cache_clear()
    assert desk.files() == {"session.json"}
    await desk.say(text="Hello.")


async def test_damaged_session(desk: Desk) -> None:
    await desk.create()
    await desk.create("s2")
    await desk.stop()
    (desk.data / "sessions" / "s1" / "session.json").write_text("{")
    await desk.start()
    async with refused(Code.DATA_LOSS, "session 's1' is damaged", "warmtalk sessions s1 --delete"):
        await desk.say(text="Hello.")
    await desk.say("s2", text="Hello.")
    await desk.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
    await desk.create()


async def test_stop_of_the_service_during_a_speak(desk: Desk) -> None:
    await desk.create()
    desk.fake.hold_at = 3
    running = asyncio.create_task(desk.say(text="This one is cut off."))
    await desk.fake.held.wait()
    assert desk.parts is not None
    await asyncio.wait_for(desk.parts.server.stop(0.1), 5)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await running
    await desk.stop()
    desk.fake.hold_at = None
    await desk.start()
    conversation = await desk.conversation()
    assert not conversation.lost, "it was ended in order"
    assert desk.files() == {"session.json"}


async def test_kill_during_a_speak(desk: Desk) -> None:
    """kill -9 of the real process, then a start: the conversation is whole and the loss is told."""
    assert desk.infer is not None
    await desk.stop()
    socket = desk.data / "session.sock"
    environ = {
        **os.environ,
        "WARMTALK_DATA_DIR": str(desk.data),
        "WARMTALK_SESSION_LISTEN": f"unix:{socket}",
        "WARMTALK_SESSION_INFER": desk.infer.address,
        "WARMTALK_SESSION_X264_PRESET": "ultrafast",
        "WARMTALK_SESSION_VOICE": "openai",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.session"], env=environ)  # noqa: ASYNC220
    try:
        await wait_ready(f"unix:{socket}", "warmtalk.v1.SessionService", 20)
        async with channel(f"unix:{socket}") as link:
            desk.stub = SessionServiceStub(link)
            await desk.create()
            await desk.say(audio=wav(SPEECH))
            whole = film((await desk.conversation()).uri)
            desk.fake.hold_at = 20
            running = asyncio.create_task(desk.say(audio=wav(SPEECH)))
            await desk.fake.held.wait()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            async with refused(Code.UNAVAILABLE):
                await running
    finally:
        process.kill()
        process.wait()
    video = desk.data / "sessions" / "s1" / "0001" / "conversation.mp4"
    video.write_bytes(video.read_bytes() + b"half a fragment")
    desk.fake.hold_at = None
    await desk.start()
    conversation = await desk.conversation()
    assert [(one.text, one.reason) for one in conversation.lost] == [
        ("", "the session service ended while it was being said")
    ]
    assert conversation.lost[0].start_time.seconds > 0
    assert len(conversation.clips) == 1
    assert np.array_equal(film(conversation.uri).pcm, whole.pcm)
    await desk.say(text="It goes on.")
    after = await desk.conversation()
    assert len(film(after.uri).pictures) == after.frames == 50 + after.clips[1].frames
    clips = {"0001/clip-0001.mp4", "0001/clip-0002.mp4"}
    assert desk.files() == {"session.json", "0001/conversation.mp4", *clips}
