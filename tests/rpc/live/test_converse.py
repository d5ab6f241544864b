"""Live conversations with a real server and real codecs, read by PyAV; infer and voice are fakes."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.audio import syllables
from tests.rpc.live.client import ConverseClient, seconds
from tests.rpc.session.harness import SessionHarness, read_video
from warmtalk.media.h264 import H264Encoder
from warmtalk.media.i420 import I420
from warmtalk.v1 import session_pb2 as pb


async def test_idle_speech_idle(service: SessionHarness, tmp_path: Path) -> None:
    async with ConverseClient(service) as client:
        await asyncio.sleep(0.4)
        await client.send_speech(syllables(1.0))
        await client.wait_for("finished")
        await asyncio.sleep(0.4)
        await client.finish()
    assert client.event_names() == ["opened", "accepted", "started", "clip_ready", "conversation_updated", "finished"]
    opened = client.events_of("opened")[0].opened
    assert (opened.width, opened.height, opened.frame_rate.numerator) == (96, 64, 25)
    assert opened.mime_type.startswith("video/mp4; codecs=")
    fragments = [event.fragment for event in client.events_of("fragment")]
    assert [one.sequence for one in fragments] == list(range(len(fragments)))
    for a, b in itertools.pairwise(fragments[1:]):
        assert seconds(a.start) + seconds(a.duration) == pytest.approx(seconds(b.start), abs=1e-5)
    start = seconds(client.events_of("started")[0].started.stream_start)
    spoken = [one for one in fragments if one.speech]
    assert seconds(spoken[0].start) <= start < seconds(spoken[0].start) + seconds(spoken[0].duration)

    shown = client.decode(tmp_path / "live.mp4")
    assert shown.times == [pytest.approx(k / 25) for k in range(len(shown.times))]
    first = round(start * 25)
    brightness = [int(picture[24, 24].mean()) for picture in shown.frames]
    index = service.fake.configs[0].start_index
    assert brightness[first + 4 : first + 25] == [pytest.approx(50 + index + k, abs=8) for k in range(4, 25)]
    loud = np.flatnonzero(np.abs(shown.pcm) > 0.06) / 48_000
    assert loud[0] == pytest.approx(start + 0.01, abs=0.03)
    assert loud[-1] < start + 1.01


async def test_avatar_is_warmed_before_the_first_utterance(service: SessionHarness) -> None:
    """The session was created before the service was started."""
    await service.stop()
    await service.start()
    service.fake.warmed.clear()
    async with ConverseClient(service) as client:
        await client.wait_for("fragment", 3)
    assert service.fake.warmed == ["ann"]


async def test_clip_holds_the_frames_that_were_shown(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(1.0))
        await client.wait_for("finished")
        await asyncio.sleep(0.2)
        await client.send_speech(syllables(0.6))
        await client.wait_for("finished", 2)
    conversation = await service.conversation()
    first, second = (read_video(clip.uri) for clip in conversation.clips)
    assert len(first.frames) == 25 + 6 + 4, "the speech, the tail of silence, the closing mouth"
    assert len(second.frames) > 15 + 10, "idle frames in front"
    assert len(second.frames) <= 15 + 10 + 15
    whole = read_video(conversation.uri)
    assert np.array_equal(whole.pcm, np.concatenate([first.pcm, second.pcm]))
    assert conversation.samples == conversation.frames * 1920
    assert whole.times == [pytest.approx(k / 25) for k in range(conversation.frames)]


@pytest.mark.parametrize("before", [False, True], ids=["live first", "after a clip"])
async def test_each_frame_is_encoded_once(
    service: SessionHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A clip holds the encoded frames of the stream, even when the first clip of the conversation was not live."""
    if before:
        await service.speak(text="Hello there.")
    encoded_again: list[I420] = []
    encode = H264Encoder.encode
    monkeypatch.setattr(
        H264Encoder, "encode", lambda *args, **more: encoded_again.append(args[1]) or encode(*args, **more)
    )
    async with ConverseClient(service) as client:
        await client.wait_for("fragment", 3)
        await client.send_speech(syllables(1.0))
        await client.wait_for("finished")
        await asyncio.sleep(1.0)
        await client.send_speech(syllables(0.6))
        await client.wait_for("finished", 2)
        shown = client.decode(tmp_path / "live.mp4")
    lead_in = round(0.6 * 25)
    assert len(encoded_again) <= (before + 1) * lead_in, "the idle frames in front of the speech, no others"
    await service.speak(text="Good bye.")
    conversation = await service.conversation()
    for clip, skipped in zip(conversation.clips[before:-1], (lead_in if before else 0, lead_in), strict=True):
        kept = read_video(clip.uri).frames[skipped:]
        begin = next(k for k, one in enumerate(shown.frames) if np.array_equal(one, kept[0]))
        for one, other in zip(kept, shown.frames[begin:], strict=False):
            assert np.array_equal(one, other)
    whole = read_video(conversation.uri)
    assert len(whole.frames) == conversation.frames == sum(clip.frames for clip in conversation.clips)
    parts = [one for clip in conversation.clips for one in read_video(clip.uri).frames]
    assert all(np.array_equal(one, other) for one, other in zip(whole.frames, parts, strict=True))


async def test_head_continues_in_the_next_clip(service: SessionHarness) -> None:
    """The source frames continue when idle time was left out and when the next clip is not live."""
    async with ConverseClient(service) as client:
        await asyncio.sleep(0.5)
        await client.send_speech(syllables(1.0))
        await client.wait_for("finished")
        await client.finish()
    await service.speak(text="Hello")
    live, plain = service.fake.configs
    assert live.start_index >= 10, "the head had moved"
    assert plain.start_index == live.start_index + 25 + 6 + 4


async def test_text_in_chunks(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        for chunk in ("Hel", "lo the", "re, my friend. How", " are you? Fi", "ne."):
            await client.send(text=chunk)
        await client.wait_for("started")
        assert service.voice.said[:1] == ["Hello there, my friend."], "before the text has ended"
        await client.send(end=pb.EndOfUtterance())
        await client.wait_for("finished")
    assert service.voice.said == ["Hello there, my friend.", "How are you?", "Fine."]
    clips = (await service.conversation()).clips
    assert [clip.text for clip in clips] == ["Hello there, my friend. How are you? Fine."]


async def test_stream_without_idle_frames(service: SessionHarness, tmp_path: Path) -> None:
    """The stream stands still until speech comes, and again after the speech."""
    async with ConverseClient(service, idle=False) as client:
        await asyncio.sleep(0.4)
        assert len(client.events_of("fragment")) == 1, "the head of the file"
        for count in (1, 2):
            await client.send_speech(syllables(0.6))
            await client.wait_for("finished", count)
        await client.finish()
        shown = client.decode(tmp_path / "live.mp4")
    assert len(shown.frames) == 2 * (15 + 6 + 4), "the speech, the tail of silence, the closing mouth"
