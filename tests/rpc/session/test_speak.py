"""Speak: text or audio in, clips and one conversation out."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.audio import SPEECH, syllables, wav
from tests.fakes import FakeVoice
from tests.rpc.session.harness import STEPS, Code, SessionHarness, event_names, read_video, refused
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.media_pb2 import FrameRate


async def test_text_then_audio(service: SessionHarness) -> None:
    await service.create()
    events = await service.speak(text="Hello there, my friend. How are you? 😀")
    assert event_names(events) == STEPS
    assert (events[0].accepted.sentences, events[0].accepted.queued_before) == (2, 0)
    assert service.voice.said == ["Hello there, my friend.", "How are you?"]
    times = [event.conversation_time.ToTimedelta().total_seconds() for event in events]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(0.72), "7 words of 0.1 s, in whole frames"
    assert events[-1].finished.frames == 18

    assert event_names(await service.speak(audio=wav(SPEECH))) == STEPS
    conversation = await service.conversation()
    assert [(clip.number, clip.first_frame, clip.frames) for clip in conversation.clips] == [(1, 0, 18), (2, 18, 50)]
    assert [clip.text for clip in conversation.clips] == ["Hello there, my friend. How are you? 😀", ""]
    assert (conversation.frames, conversation.samples) == (68, 68 * 1920)
    assert [config.start_index for config in service.fake.configs] == [0, 18], "the head does not jump"
    whole = read_video(conversation.uri)
    assert len(whole.frames) == 68
    pcm = np.concatenate([read_video(clip.uri).pcm for clip in conversation.clips])
    assert np.array_equal(whole.pcm, pcm)
    for number, picture in enumerate(whole.frames):
        assert abs(int(picture[24, 24].mean()) - (50 + number)) < 8, "the patch of this frame"
        row = number % 14 if number % 14 < 7 else 13 - number % 14
        assert abs(int(picture[56, 80].mean()) - (40 + 20 * row)) < 8, "on the source frame of this index"


async def test_twenty_clips(service: SessionHarness) -> None:
    """Video and audio of a long conversation end within one sample of each other."""
    request = pb.CreateSessionRequest(
        session_id="s1", avatar_id="ann", frame_rate=FrameRate(numerator=30000, denominator=1001)
    )
    await service.stub.CreateSession(request)
    lengths = [1, 533, 534, 1068, 1600, 2400, 3000, 5000, 100, 16, 801, 802, 4000, 267, 9000, 533, 534, 535, 1601, 7]
    for length in lengths:
        await service.speak(audio=wav(syllables(1)[:length]))
    conversation = await service.conversation()
    assert len(conversation.clips) == 20
    whole = read_video(conversation.uri)
    assert whole.times == [pytest.approx(number * 1001 / 30000, abs=1e-9) for number in range(conversation.frames)]
    assert len(whole.pcm) == conversation.samples
    assert abs(conversation.samples - conversation.frames * 1601.6) <= 1
    assert np.array_equal(whole.pcm, np.concatenate([read_video(clip.uri).pcm for clip in conversation.clips]))
    for clip, length in zip(conversation.clips, lengths, strict=True):
        assert clip.samples >= length * 3
        assert clip.samples - length * 3 < 1602 + 2
    assert service.fake.samples == [int(clip.frames * 1001 * 16000 / 30000) for clip in conversation.clips]


async def test_first_frame_before_the_last_word(service: SessionHarness) -> None:
    """The second sentence is held back in the voice while the first is shown."""
    gate = asyncio.Event()

    class SlowVoice(FakeVoice):
        async def synthesize(self, sentence: str):  # type: ignore[no-untyped-def]
            if sentence.startswith("Second"):
                await gate.wait()
            async for chunk in super().synthesize(sentence):
                yield chunk

    await service.stop()
    service.voice = SlowVoice()
    await service.start()
    await service.create()
    call = service.stub.Speak(pb.SpeakRequest(session_id="s1", text="First one here. Second one."))
    names = []
    async for event in call:
        names.append(event.WhichOneof("event"))
        if names[-1] == "started":
            gate.set()
    assert names[-1] == "finished"
    assert service.voice.said == ["First one here.", "Second one."]


async def test_long_audio_with_credit(service: SessionHarness) -> None:
    """Audio beyond the credit and beyond the audio sent ahead causes no deadlock."""
    await service.create()
    events = await asyncio.wait_for(service.speak(audio=wav(syllables(60))), 60)
    assert events[-1].finished.frames == 1500


async def test_mixed_scripts_and_long_text(service: SessionHarness) -> None:
    await service.create()
    events = await service.speak(text="Hello. 你好。नमस्ते। مرحبا؟ Привет!")
    assert events[0].accepted.sentences == 5
    async with refused(Code.INVALID_ARGUMENT, "text has 20000 characters. Send at most 5000"):
        await service.speak(text="a word " * 2857 + "x")
