"""Input that cannot be spoken and invalid names: refused with a message."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from tests.audio import SPEECH, syllables, wav
from tests.rpc.session.harness import Code, SessionHarness, read_video, refused
from warmtalk.v1 import session_pb2 as pb


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text is empty. Send a text or an audio file"),
        (" \n ", "text is empty"),
        ("😀🎉", "text has no letter or digit to say"),
        ("?!...", "text has no letter or digit to say"),
    ],
)
async def test_text_that_cannot_be_spoken(service: SessionHarness, text: str, message: str) -> None:
    await service.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await service.speak(text=text)
    assert service.files() == {"session.json"}


async def test_neither_text_nor_audio(service: SessionHarness) -> None:
    await service.create()
    for request in (pb.SpeakRequest(session_id="s1"), pb.SpeakRequest(session_id="s1", audio=b"")):
        async with refused(Code.INVALID_ARGUMENT, "audio"):
            _ = [event async for event in service.stub.Speak(request)]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"not a sound at all", "the audio file is of an unknown kind. Send a wav, mp3, flac or ogg file"),
        (wav(np.zeros(0, np.float32)), "the audio has no samples"),
        (wav(SPEECH)[:5000], "the wav file is cut short"),
    ],
)
async def test_audio_that_cannot_be_decoded(service: SessionHarness, audio: bytes, message: str) -> None:
    await service.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await service.speak(audio=audio)
    assert service.files() == {"session.json"}
    assert not service.fake.configs, "infer was not asked"


async def test_audio_of_too_many_bytes(service: SessionHarness) -> None:
    await service.create()
    async with refused(Code.INVALID_ARGUMENT, "audio has 31457281 bytes. Send at most 31457280"):
        await service.speak(audio=bytes((30 << 20) + 1))


async def test_audio_longer_than_the_limit(service: SessionHarness) -> None:
    await service.stop()
    await service.start(max_clip_s=3.0)
    await service.create()
    async with refused(Code.INVALID_ARGUMENT, "the audio is longer than 3 s. Send it in shorter parts"):
        await service.speak(audio=wav(syllables(3.1)))
    async with refused(Code.INVALID_ARGUMENT, "the text takes longer than 3 s to say. Send it in parts"):
        await service.speak(text="word " * 31)
    assert service.files() == {"session.json"}
    await service.speak(audio=wav(syllables(3.0)))


@pytest.mark.parametrize("rate", [8_000, 192_000])
async def test_audio_shorter_than_a_frame(service: SessionHarness, rate: int) -> None:
    await service.create()
    events = await service.speak(audio=wav(np.full(5, 0.5, np.float32), rate))
    assert events[-1].finished.frames == 1
    conversation = await service.conversation()
    assert (conversation.frames, conversation.samples) == (1, 1920)


async def test_audio_cut_while_loud_fades_out(service: SessionHarness) -> None:
    await service.create()
    await service.speak(audio=wav(np.full(5000, 0.5, np.float32), 48_000))
    pcm = read_video((await service.conversation()).uri).pcm.astype(int)
    assert len(pcm) == 3 * 1920
    assert (pcm[:4850] == pcm[0]).all()
    assert np.abs(np.diff(pcm)).max() < 200, "no click"
    assert not pcm[5000:].any()


@pytest.mark.parametrize("session_id", ["..", "/", "a/b", "a\0b", "a" * 300, "A", "-a", "", "ä", "a\n"])
async def test_invalid_session_ids(service: SessionHarness, session_id: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: service.stub.GetSession(pb.GetSessionRequest(session_id=session_id)),
        lambda: service.stub.DeleteSession(pb.DeleteSessionRequest(session_id=session_id)),
        lambda: service.stub.Reset(pb.ResetRequest(session_id=session_id)),
        lambda: service.speak(session_id, text="Hello."),
    ]
    if session_id:
        calls.append(lambda: service.create(session_id))
    for call in calls:
        async with refused(Code.INVALID_ARGUMENT, "session_id is", "Use 1 to 63 of a-z, 0-9, '_' and '-'"):
            await call()  # type: ignore[misc]


async def test_unknown_session(service: SessionHarness) -> None:
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await service.speak("nobody", text="Hello.")


async def test_avatars_that_cannot_speak(service: SessionHarness) -> None:
    async with refused(Code.INVALID_ARGUMENT, "avatar_id is missing"):
        await service.create("s1", "")
    async with refused(Code.NOT_FOUND, "there is no avatar 'bob' (there are: ann)"):
        await service.create("s1", "bob")
    (service.data / "avatars" / ".building" / "bob").mkdir(parents=True)
    async with refused(Code.FAILED_PRECONDITION, "avatar 'bob' is still being built"):
        await service.create("s1", "bob")
    shutil.copytree(service.data / "avatars" / "ann", service.data / "avatars" / "torn")
    (service.data / "avatars" / "torn" / "faces.safetensors").write_bytes(b"x" * 100)
    async with refused(Code.DATA_LOSS, "avatar 'torn' is damaged: faces.safetensors cannot be read"):
        await service.create("s1", "torn")
    assert not (service.data / "sessions").exists()


async def test_avatar_damaged_after_the_session_was_created(service: SessionHarness) -> None:
    await service.create()
    await service.stop()
    (service.data / "avatars" / "ann" / "frames" / "00000.mp4").write_bytes(b"")
    await service.start()
    async with refused(Code.DATA_LOSS, "avatar 'ann' is damaged: 00000.mp4 holds 0 frames, not 7"):
        await service.speak(text="Hello.")
    shutil.rmtree(service.data / "avatars" / "ann")
    async with refused(Code.NOT_FOUND, "there is no avatar 'ann'"):
        await service.speak(text="Hello.")
    assert service.files() == {"session.json"}
