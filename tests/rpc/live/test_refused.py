"""Messages of a live conversation that are refused, and audio of any rate and chunk size."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.audio import syllables
from tests.rpc.live.client import ConverseClient, pcm
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
    service: SessionHarness, messages: list[dict[str, object]], parts: list[str]
) -> None:
    call = service.stub.Converse(iter([pb.ConverseRequest(**one) for one in messages]))  # type: ignore[arg-type]
    async with refused(Code.INVALID_ARGUMENT, *parts):
        async with asyncio.timeout(10):
            _ = [response async for response in call]
    await service.wait_idle()
    assert service.files() == {"session.json"}


async def test_unknown_session(service: SessionHarness) -> None:
    request = pb.ConverseRequest(config=pb.ConverseConfig(session_id="nobody"))
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        _ = [response async for response in service.stub.Converse(iter([request]))]
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await service.stub.Interrupt(pb.InterruptRequest(session_id="nobody"))


async def test_end_and_interrupt_without_speech_are_ignored(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        for message in ({"end": {}}, {"interrupt": {}}, {"pcm_s16le": b""}, {"end": {}}):
            await client.send(**message)
        await client.wait_for("fragment", 4)
        await client.finish()
    assert client.event_names() == ["opened"]


@pytest.mark.parametrize(("rate_hz", "channels", "chunk_s"), [(8_000, 1, 0.013), (44_100, 2, 0.25), (48_000, 1, 0.001)])
async def test_audio_of_any_rate_and_chunk_size(
    service: SessionHarness, rate_hz: int, channels: int, chunk_s: float
) -> None:
    audio = np.repeat(syllables(0.6, rate_hz), channels)
    async with ConverseClient(service, sample_rate_hz=rate_hz, channels=channels) as client:
        step = int(chunk_s * rate_hz) * channels
        for offset in range(0, len(audio), step):
            await client.send(pcm_s16le=pcm(audio[offset : offset + step]))
        await client.send(end=pb.EndOfUtterance())
        frames = (await client.wait_for("finished")).finished.frames
    assert 0 <= frames - (15 + 6 + 4) <= 5, "all speech; a frame is held where audio or infer is late"
