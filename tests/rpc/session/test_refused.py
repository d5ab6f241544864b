"""What cannot be said, and names that cannot be: refused in words."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from tests.audio import SPEECH, syllables, wav
from tests.rpc.session.harness import Code, SessionHarness, film, refused
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
async def test_text_that_cannot_be_said(desk: SessionHarness, text: str, message: str) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await desk.say(text=text)
    assert desk.files() == {"session.json"}


async def test_neither_text_nor_sound(desk: SessionHarness) -> None:
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
async def test_sound_that_cannot_be_said(desk: SessionHarness, audio: bytes, message: str) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, message):
        await desk.say(audio=audio)
    assert desk.files() == {"session.json"}
    assert not desk.fake.configs, "nobody was bothered with it"


async def test_sound_of_too_many_bytes(desk: SessionHarness) -> None:
    await desk.create()
    async with refused(Code.INVALID_ARGUMENT, "audio has 31457281 bytes. Send at most 31457280"):
        await desk.say(audio=bytes((30 << 20) + 1))


async def test_sound_longer_than_the_limit(desk: SessionHarness) -> None:
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
async def test_sound_shorter_than_a_frame(desk: SessionHarness, rate: int) -> None:
    await desk.create()
    events = await desk.say(audio=wav(np.full(5, 0.5, np.float32), rate))
    assert events[-1].finished.frames == 1
    conversation = await desk.conversation()
    assert (conversation.frames, conversation.samples) == (1, 1920)


async def test_sound_cut_while_it_is_loud_fades(desk: SessionHarness) -> None:
    await desk.create()
    await desk.say(audio=wav(np.full(5000, 0.5, np.float32), 48_000))
    pcm = film((await desk.conversation()).uri).pcm.astype(int)
    assert len(pcm) == 3 * 1920
    assert (pcm[:4850] == pcm[0]).all()
    assert np.abs(np.diff(pcm)).max() < 200, "no click"
    assert not pcm[5000:].any()


@pytest.mark.parametrize("bad", ["..", "/", "a/b", "a\0b", "a" * 300, "A", "-a", "", "ä", "a\n"])
async def test_bad_session_ids(desk: SessionHarness, bad: str) -> None:
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


async def test_unknown_session(desk: SessionHarness) -> None:
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await desk.say("nobody", text="Hello.")


async def test_avatars_that_cannot_speak(desk: SessionHarness) -> None:
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


async def test_avatar_damaged_after_the_session_was_made(desk: SessionHarness) -> None:
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
