"""What breaks behind the session service, and the service itself: nothing is lost in silence."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest

from tests.audio import SPEECH, syllables, wav
from tests.fakes import FakeVoice
from tests.rpc.session.harness import Code, SessionHarness, film, refused
from warmtalk.core.errors import NotFound, Unreachable
from warmtalk.media import file_types as found
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub


async def test_infer_down(desk: SessionHarness) -> None:
    await desk.create()
    address = await desk.stop_infer()
    async with refused(Code.UNAVAILABLE, "the infer service does not answer", "warmtalk up"):
        await desk.say(text="Hello.")
    assert desk.files() == {"session.json"}
    await desk.start_infer(address)
    await asyncio.sleep(0.5)
    await desk.say(text="Hello again.")
    assert len((await desk.conversation()).clips) == 1


async def shows_each_frame_once(desk: SessionHarness, frames: int) -> None:
    """The conversation, by the brightness that the fake gives each frame."""
    pictures = film((await desk.conversation()).uri).pictures
    assert len(pictures) == frames
    assert all(abs(int(picture[24, 24].mean()) - (50 + number)) < 8 for number, picture in enumerate(pictures))


async def test_infer_dies_once_in_the_middle(desk: SessionHarness) -> None:
    """The clip goes on from the frame it had; nothing is missing and nothing shows twice."""
    await desk.create()
    desk.fake.die_at = [37]
    events = await desk.say(audio=wav(syllables(3.0)))
    assert events[-1].finished.frames == 75
    first, second = (config.start_index for config in desk.fake.configs)
    assert first == 0
    assert second <= 37 - 25, "a second of sound is heard again; grpc may drop frames that were under way"
    await shows_each_frame_once(desk, 75)


async def test_infer_is_restarted_in_the_middle(desk: SessionHarness) -> None:
    await desk.create()
    desk.fake.hold_at = 40
    running = asyncio.create_task(desk.say(audio=wav(syllables(3.0))))
    await desk.fake.held.wait()
    address = await desk.stop_infer()
    desk.fake.hold_at = None
    await asyncio.sleep(0.5)
    await desk.start_infer(address)
    assert (await running)[-1].finished.frames == 75
    await shows_each_frame_once(desk, 75)


async def test_infer_goes_away_in_the_middle(desk: SessionHarness) -> None:
    await desk.create()
    desk.fake.hold_at = 40
    running = asyncio.create_task(desk.say(audio=wav(syllables(3.0))))
    await desk.fake.held.wait()
    await desk.stop_infer()
    async with refused(Code.UNAVAILABLE, "infer service"):
        await asyncio.wait_for(running, 10)
    assert desk.files() == {"session.json"}


async def test_infer_dies_and_stays_dead(desk: SessionHarness) -> None:
    await desk.create()
    await desk.say(text="Kept words.")
    before = await desk.conversation()
    desk.fake.die_at = [10, 10]
    async with refused(Code.UNAVAILABLE, "infer service"):
        await desk.say(audio=wav(syllables(3.0)))
    assert await desk.conversation() == before
    assert desk.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


async def test_infer_refuses(desk: SessionHarness) -> None:
    await desk.create()
    desk.fake.error = NotFound("there is no avatar 'ann'", "Make it")
    async with refused(Code.NOT_FOUND, "there is no avatar 'ann'. Make it"):
        await desk.say(text="Hello.")
    assert len(desk.fake.configs) == 1, "it is not asked again"


async def test_voice_fails(desk: SessionHarness) -> None:
    await desk.create()
    desk.voice.error = Unreachable("the voice stopped working", "Its log says more")
    async with refused(Code.UNAVAILABLE, "the voice stopped working"):
        await desk.say(text="Hello.")
    assert desk.files() == {"session.json"}
    desk.voice.error = None
    await desk.say(text="Hello.")


async def test_voice_says_nothing(desk: SessionHarness) -> None:
    class Mute(FakeVoice):
        async def synthesize(self, sentence: str):  # type: ignore[no-untyped-def]
            for piece in ():
                yield piece

    await desk.stop()
    desk.voice = Mute()
    await desk.start()
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, "the voice made no audio of this text"):
        await desk.say(text="Hello.")


async def test_disk_full(desk: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's volume has room for half a clip."""
    await desk.create()
    await desk.say(text="Kept words.")
    whole = film((await desk.conversation()).uri)
    script = desk.data / "small-ffmpeg"
    script.write_text(f'#!/bin/sh\nulimit -f 2\nexec {found.find_ffmpeg()} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", str(script))
        found.find_ffmpeg.cache_clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.say(audio=wav(syllables(3.0)))
        sound_check_failed = "cut short" in (caught.value.details() or "")
        assert not sound_check_failed
    found.find_ffmpeg.cache_clear()
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert "the volume is full" in (caught.value.details() or "")
    conversation = await desk.conversation()
    assert len(conversation.clips) == 1
    assert [(one.text, one.reason[:18]) for one in conversation.lost] == [("", "the volume is full")]
    assert desk.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    assert np.array_equal(film(conversation.uri).pcm, whole.pcm)
    await desk.say(text="Room again.")


async def test_ffmpeg_missing(desk: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.create()
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", "")
        patch.setenv("PATH", "")
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        found.find_ffmpeg.cache_clear()
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing. Install it: pip install imageio-ffmpeg"):
            await desk.say(text="Hello.")
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing"):
            await desk.say(audio=wav(SPEECH))
    found.find_ffmpeg.cache_clear()
    assert desk.files() == {"session.json"}
    await desk.say(text="Hello.")


async def test_damaged_session(desk: SessionHarness) -> None:
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


async def test_stop_of_the_service_during_a_speak(desk: SessionHarness) -> None:
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


async def test_kill_during_a_speak(desk: SessionHarness) -> None:
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
    process = subprocess.Popen([sys.executable, "-m", "warmtalk.services.session"], env=environ)  # noqa: ASYNC220
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
        ("", "the session service ended before the clip was complete")
    ]
    assert conversation.lost[0].start_time.seconds > 0
    assert len(conversation.clips) == 1
    assert np.array_equal(film(conversation.uri).pcm, whole.pcm)
    await desk.say(text="It goes on.")
    after = await desk.conversation()
    assert len(film(after.uri).pictures) == after.frames == 50 + after.clips[1].frames
    clips = {"0001/clip-0001.mp4", "0001/clip-0002.mp4"}
    assert desk.files() == {"session.json", "0001/conversation.mp4", *clips}
