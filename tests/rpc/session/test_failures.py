"""Failures behind the session service and of the service: every loss is reported."""

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
from tests.rpc.session.harness import Code, SessionHarness, read_video, refused
from warmtalk.core.errors import NotFound, Unreachable
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub


async def test_infer_down(service: SessionHarness) -> None:
    await service.create()
    address = await service.stop_infer()
    async with refused(Code.UNAVAILABLE, "the infer service does not answer", "warmtalk up"):
        await service.speak(text="Hello.")
    assert service.files() == {"session.json"}
    await service.start_infer(address)
    await asyncio.sleep(0.5)
    await service.speak(text="Hello again.")
    assert len((await service.conversation()).clips) == 1


async def check_each_frame_shown_once(service: SessionHarness, frames: int) -> None:
    """Checks the conversation by the brightness that the fake infer service gives each frame."""
    pictures = read_video((await service.conversation()).uri).frames
    assert len(pictures) == frames
    assert all(abs(int(picture[24, 24].mean()) - (50 + number)) < 8 for number, picture in enumerate(pictures))


async def test_infer_dies_once_in_the_middle(service: SessionHarness) -> None:
    """The clip continues from the last frame received; no frame is missing and none is shown twice."""
    await service.create()
    service.fake.die_at = [37]
    events = await service.speak(audio=wav(syllables(3.0)))
    assert events[-1].finished.frames == 75
    first, second = (config.start_index for config in service.fake.configs)
    assert first == 0
    assert second <= 37 - 25, "a second of audio is sent again; grpc may drop frames in flight"
    await check_each_frame_shown_once(service, 75)


async def test_infer_is_restarted_in_the_middle(service: SessionHarness) -> None:
    await service.create()
    service.fake.hold_at = 40
    running = asyncio.create_task(service.speak(audio=wav(syllables(3.0))))
    await service.fake.held.wait()
    address = await service.stop_infer()
    service.fake.hold_at = None
    await asyncio.sleep(0.5)
    await service.start_infer(address)
    assert (await running)[-1].finished.frames == 75
    await check_each_frame_shown_once(service, 75)


async def test_infer_stops_in_the_middle(service: SessionHarness) -> None:
    await service.create()
    service.fake.hold_at = 40
    running = asyncio.create_task(service.speak(audio=wav(syllables(3.0))))
    await service.fake.held.wait()
    await service.stop_infer()
    async with refused(Code.UNAVAILABLE, "infer service"):
        await asyncio.wait_for(running, 10)
    assert service.files() == {"session.json"}


async def test_infer_dies_and_stays_dead(service: SessionHarness) -> None:
    await service.create()
    await service.speak(text="Kept words.")
    before = await service.conversation()
    service.fake.die_at = [10, 10]
    async with refused(Code.UNAVAILABLE, "infer service"):
        await service.speak(audio=wav(syllables(3.0)))
    assert await service.conversation() == before
    assert service.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


async def test_infer_refuses(service: SessionHarness) -> None:
    await service.create()
    service.fake.error = NotFound("there is no avatar 'ann'", "Make it")
    async with refused(Code.NOT_FOUND, "there is no avatar 'ann'. Make it"):
        await service.speak(text="Hello.")
    assert len(service.fake.configs) == 1, "infer is not asked again"


async def test_voice_fails(service: SessionHarness) -> None:
    await service.create()
    service.voice.error = Unreachable("the voice stopped working", "Its log says more")
    async with refused(Code.UNAVAILABLE, "the voice stopped working"):
        await service.speak(text="Hello.")
    assert service.files() == {"session.json"}
    service.voice.error = None
    await service.speak(text="Hello.")


async def test_voice_without_audio(service: SessionHarness) -> None:
    class MuteVoice(FakeVoice):
        async def synthesize(self, sentence: str):  # type: ignore[no-untyped-def]
            for chunk in ():
                yield chunk

    await service.stop()
    service.voice = MuteVoice()
    await service.start()
    await service.create()
    async with refused(Code.INVALID_ARGUMENT, "the voice made no audio of this text"):
        await service.speak(text="Hello.")


async def test_disk_full(service: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume of the encoder has room for half a clip."""
    await service.create()
    await service.speak(text="Kept words.")
    whole = read_video((await service.conversation()).uri)
    script = service.data / "small-ffmpeg"
    script.write_text(f'#!/bin/sh\nulimit -f 2\nexec {find_ffmpeg()} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", str(script))
        find_ffmpeg.cache_clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.speak(audio=wav(syllables(3.0)))
        audio_check_failed = "cut short" in (caught.value.details() or "")
        assert not audio_check_failed
    find_ffmpeg.cache_clear()
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert "the volume is full" in (caught.value.details() or "")
    conversation = await service.conversation()
    assert len(conversation.clips) == 1
    assert [(one.text, one.reason[:18]) for one in conversation.lost] == [("", "the volume is full")]
    assert service.files() == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    assert np.array_equal(read_video(conversation.uri).pcm, whole.pcm)
    await service.speak(text="Room again.")


async def test_ffmpeg_missing(service: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.create()
    with monkeypatch.context() as patch:
        patch.setenv("WARMTALK_FFMPEG", "")
        patch.setenv("PATH", "")
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        find_ffmpeg.cache_clear()
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing. Install it: pip install imageio-ffmpeg"):
            await service.speak(text="Hello.")
        async with refused(Code.FAILED_PRECONDITION, "ffmpeg is missing"):
            await service.speak(audio=wav(SPEECH))
    find_ffmpeg.cache_clear()
    assert service.files() == {"session.json"}
    await service.speak(text="Hello.")


async def test_damaged_session(service: SessionHarness) -> None:
    await service.create()
    await service.create("s2")
    await service.stop()
    (service.data / "sessions" / "s1" / "session.json").write_text("{")
    await service.start()
    async with refused(Code.DATA_LOSS, "session 's1' is damaged", "warmtalk sessions s1 --delete"):
        await service.speak(text="Hello.")
    await service.speak("s2", text="Hello.")
    await service.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
    await service.create()


async def test_stop_of_the_service_during_a_speak(service: SessionHarness) -> None:
    await service.create()
    service.fake.hold_at = 3
    running = asyncio.create_task(service.speak(text="This one is cut off."))
    await service.fake.held.wait()
    assert service.parts is not None
    await asyncio.wait_for(service.parts.server.stop(0.1), 5)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await running
    await service.stop()
    service.fake.hold_at = None
    await service.start()
    conversation = await service.conversation()
    assert not conversation.lost, "the utterance was aborted in order"
    assert service.files() == {"session.json"}


async def test_kill_during_a_speak(service: SessionHarness) -> None:
    """After kill -9 of the real process and a restart the conversation is whole and the loss is recorded."""
    assert service.infer is not None
    await service.stop()
    socket = service.data / "session.sock"
    environ = {
        **os.environ,
        "WARMTALK_DATA_DIR": str(service.data),
        "WARMTALK_SESSION_LISTEN": f"unix:{socket}",
        "WARMTALK_SESSION_INFER": service.infer.address,
        "WARMTALK_SESSION_X264_PRESET": "ultrafast",
        "WARMTALK_SESSION_VOICE": "openai",
    }
    process = subprocess.Popen([sys.executable, "-m", "warmtalk.services.session"], env=environ)  # noqa: ASYNC220
    try:
        await wait_ready(f"unix:{socket}", "warmtalk.v1.SessionService", 20)
        async with channel(f"unix:{socket}") as link:
            service.stub = SessionServiceStub(link)
            await service.create()
            await service.speak(audio=wav(SPEECH))
            whole = read_video((await service.conversation()).uri)
            service.fake.hold_at = 20
            running = asyncio.create_task(service.speak(audio=wav(SPEECH)))
            await service.fake.held.wait()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            async with refused(Code.UNAVAILABLE):
                await running
    finally:
        process.kill()
        process.wait()
    video = service.data / "sessions" / "s1" / "0001" / "conversation.mp4"
    video.write_bytes(video.read_bytes() + b"half a fragment")
    service.fake.hold_at = None
    await service.start()
    conversation = await service.conversation()
    assert [(one.text, one.reason) for one in conversation.lost] == [
        ("", "the session service ended before the clip was complete")
    ]
    assert conversation.lost[0].start_time.seconds > 0
    assert len(conversation.clips) == 1
    assert np.array_equal(read_video(conversation.uri).pcm, whole.pcm)
    await service.speak(text="The next words.")
    after = await service.conversation()
    assert len(read_video(after.uri).frames) == after.frames == 50 + after.clips[1].frames
    clips = {"0001/clip-0001.mp4", "0001/clip-0002.mp4"}
    assert service.files() == {"session.json", "0001/conversation.mp4", *clips}
