"""Messages of a live conversation that mean nothing, and sound of any kind."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.audio import syllables
from tests.rpc.live.client import Client, pcm
from tests.rpc.session.harness import Code, SessionHarness, refused
from warmtalk.v1 import session_pb2 as pb


@pytest.mark.parametrize(
    ("messages", "parts"),
    [
        ([{"pcm_s16le": b"\0\0"}], ["the first message of Converse is not a config. Send ConverseConfig first"]),
        ([{"config": {}}], ["session_id is missing"]),
        ([{"config": {"session_id": "s1", "sample_rate_hz": 7999}}], ["sample_rate_hz is 7999. Use 8000 to 48000"]),
        ([{"config": {"session_id": "s1", "channels": 3}}], ["channels is 3. Use 1 or 2"]),
        (
            [{"config": {"session_id": "s1", "fragment_duration": Duration(seconds=2)}}],
            ["fragment_duration is 2 s. Use 40 ms to 1 s"],
        ),
        ([{"config": {"session_id": "s1"}}, {"pcm_s16le": b"\0\0\0"}], ["pcm_s16le has 3 bytes, not a multiple of 2"]),
        (
            [{"config": {"session_id": "s1", "channels": 2}}, {"pcm_s16le": bytes(6)}],
            ["pcm_s16le has 6 bytes, not a multiple of 4"],
        ),
        ([{"config": {"session_id": "s1"}}, {"text": "a"}, {"pcm_s16le": bytes(4)}], ["mixes text and audio"]),
        ([{"config": {"session_id": "s1"}}, {"pcm_s16le": bytes(4)}, {"text": "a"}], ["mixes text and audio"]),
        ([{"config": {"session_id": "s1"}}, {"config": {"session_id": "s1"}}], ["a second config came"]),
        ([{"config": {"session_id": "s1"}}, {"text": "a" * 5001}], ["text has 5001 characters. Send at most 5000"]),
        ([{"config": {"session_id": "s1"}}, {"text": "?!"}, {"end": {}}], ["text has no letter or digit to say"]),
        ([{"config": {"session_id": "s1"}}, {}], ["a message carries nothing"]),
    ],
)
async def test_messages_that_are_refused(
    desk: SessionHarness, messages: list[dict[str, object]], parts: list[str]
) -> None:
    call = desk.stub.Converse(iter([pb.ConverseRequest(**one) for one in messages]))  # type: ignore[arg-type]
    async with refused(Code.INVALID_ARGUMENT, *parts):
        async with asyncio.timeout(10):
            _ = [response async for response in call]
    await desk.idle()
    assert desk.files() == {"session.json"}


async def test_unknown_session(desk: SessionHarness) -> None:
    request = pb.ConverseRequest(config=pb.ConverseConfig(session_id="nobody"))
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        _ = [response async for response in desk.stub.Converse(iter([request]))]
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await desk.stub.Interrupt(pb.InterruptRequest(session_id="nobody"))


async def test_an_end_or_an_interrupt_without_speech_means_nothing(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        for message in ({"end": {}}, {"interrupt": {}}, {"pcm_s16le": b""}, {"end": {}}):
            await client.send(**message)
        await client.until("fragment", 4)
        await client.end()
    assert client.kinds() == ["opened"]


@pytest.mark.parametrize(("rate", "channels", "piece"), [(8_000, 1, 0.013), (44_100, 2, 0.25), (48_000, 1, 0.001)])
async def test_sound_of_any_rate_and_length(desk: SessionHarness, rate: int, channels: int, piece: float) -> None:
    sound = np.repeat(syllables(0.6, rate), channels)
    async with Client(desk, sample_rate_hz=rate, channels=channels) as client:
        step = int(piece * rate) * channels
        for place in range(0, len(sound), step):
            await client.send(pcm_s16le=pcm(sound[place : place + step]))
        await client.send(end=pb.EndOfUtterance())
        frames = (await client.until("finished")).finished.frames
    assert 0 <= frames - (15 + 6 + 4) <= 5, "all of it; a picture stands where sound or infer is late"
