"""Live conversations through the front door: a real server, real codecs, PyAV reads; infer and voice are fakes."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.audio import syllables
from tests.rpc.live.client import Client, seconds
from tests.rpc.session.harness import SessionHarness, film
from warmtalk.media.h264 import H264Encoder
from warmtalk.media.i420 import I420
from warmtalk.v1 import session_pb2 as pb


async def test_idle_speech_idle(desk: SessionHarness, tmp_path: Path) -> None:
    async with Client(desk) as client:
        await asyncio.sleep(0.4)
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.4)
        await client.end()
    assert client.kinds() == ["opened", "accepted", "started", "clip_ready", "conversation_updated", "finished"]
    opened = client.of("opened")[0].opened
    assert (opened.width, opened.height, opened.frame_rate.numerator) == (96, 64, 25)
    assert opened.mime_type.startswith("video/mp4; codecs=")
    fragments = [event.fragment for event in client.of("fragment")]
    assert [one.sequence for one in fragments] == list(range(len(fragments)))
    for a, b in itertools.pairwise(fragments[1:]):
        assert seconds(a.start) + seconds(a.duration) == pytest.approx(seconds(b.start), abs=1e-5)
    start = seconds(client.of("started")[0].started.stream_start)
    spoken = [one for one in fragments if one.speech]
    assert seconds(spoken[0].start) <= start < seconds(spoken[0].start) + seconds(spoken[0].duration)

    shown = client.file(tmp_path / "live.mp4")
    assert shown.times == [pytest.approx(k / 25) for k in range(len(shown.times))]
    first = round(start * 25)
    lights = [int(picture[24, 24].mean()) for picture in shown.pictures]
    index = desk.fake.configs[0].start_index
    assert lights[first + 4 : first + 25] == [pytest.approx(50 + index + k, abs=8) for k in range(4, 25)]
    loud = np.flatnonzero(np.abs(shown.pcm) > 0.06) / 48_000
    assert loud[0] == pytest.approx(start + 0.01, abs=0.03)
    assert loud[-1] < start + 1.01


async def test_the_avatar_is_warm_before_anything_is_said(desk: SessionHarness) -> None:
    """Also of a session that was made before the service was started."""
    await desk.stop()
    await desk.start()
    desk.fake.warmed.clear()
    async with Client(desk) as client:
        await client.until("fragment", 3)
    assert desk.fake.warmed == ["ann"]


async def test_clip_is_what_was_shown(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.2)
        await client.say(syllables(0.6))
        await client.until("finished", 2)
    conversation = await desk.conversation()
    first, second = (film(clip.uri) for clip in conversation.clips)
    assert len(first.pictures) == 25 + 6 + 4, "the speech, its tail, the mouth closing"
    assert len(second.pictures) > 15 + 10, "idle pictures in front"
    assert len(second.pictures) <= 15 + 10 + 15
    whole = film(conversation.uri)
    assert np.array_equal(whole.pcm, np.concatenate([first.pcm, second.pcm]))
    assert conversation.samples == conversation.frames * 1920
    assert whole.times == [pytest.approx(k / 25) for k in range(conversation.frames)]


@pytest.mark.parametrize("before", [False, True], ids=["live first", "after a clip"])
async def test_a_picture_is_coded_once(
    desk: SessionHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A clip has the stream's own pictures, also in a conversation that was not begun live."""
    if before:
        await desk.say(text="Hello there.")
    again: list[I420] = []
    encode = H264Encoder.encode
    monkeypatch.setattr(H264Encoder, "encode", lambda *args, **more: again.append(args[1]) or encode(*args, **more))
    async with Client(desk) as client:
        await client.until("fragment", 3)
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(1.0)
        await client.say(syllables(0.6))
        await client.until("finished", 2)
        shown = client.file(tmp_path / "live.mp4")
    lead_in = round(0.6 * 25)
    assert len(again) <= (before + 1) * lead_in, "the idle pictures in front of the speech, no others"
    await desk.say(text="Good bye.")
    conversation = await desk.conversation()
    for clip, fewer in zip(conversation.clips[before:-1], (lead_in if before else 0, lead_in), strict=True):
        kept = film(clip.uri).pictures[fewer:]
        begin = next(k for k, one in enumerate(shown.pictures) if np.array_equal(one, kept[0]))
        for one, other in zip(kept, shown.pictures[begin:], strict=False):
            assert np.array_equal(one, other)
    whole = film(conversation.uri)
    assert len(whole.pictures) == conversation.frames == sum(clip.frames for clip in conversation.clips)
    parts = [one for clip in conversation.clips for one in film(clip.uri).pictures]
    assert all(np.array_equal(one, other) for one, other in zip(whole.pictures, parts, strict=True))


async def test_the_head_goes_on_in_the_next_clip(desk: SessionHarness) -> None:
    """Also where idle time was left out, and when the next clip is no live one."""
    async with Client(desk) as client:
        await asyncio.sleep(0.5)
        await client.say(syllables(1.0))
        await client.until("finished")
        await client.end()
    await desk.say(text="Hello")
    live, plain = desk.fake.configs
    assert live.start_index >= 10, "the head had moved"
    assert plain.start_index == live.start_index + 25 + 6 + 4


async def test_text_in_pieces(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        for piece in ("Hel", "lo the", "re, my friend. How", " are you? Fi", "ne."):
            await client.send(text=piece)
        await client.until("started")
        assert desk.voice.said[:1] == ["Hello there, my friend."], "before the text has ended"
        await client.send(end=pb.EndOfUtterance())
        await client.until("finished")
    assert desk.voice.said == ["Hello there, my friend.", "How are you?", "Fine."]
    assert [clip.text for clip in (await desk.conversation()).clips] == ["Hello there, my friend. How are you? Fine."]
