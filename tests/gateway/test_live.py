"""Live video over WebSocket and plain HTTP, with a real session service behind a real gateway."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.audio import syllables, wav
from tests.gateway.harness import GatewayHarness, running
from tests.gateway.player import player, sequence
from warmtalk.media.live_encoder import LiveEncoder, LiveSettings
from warmtalk.services.gateway.live.edit_list import add_edit_list


@pytest_asyncio.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running(tmp_path) as harness:
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        yield harness


async def test_a_text_is_spoken_live_and_becomes_a_clip(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        opened = await page.wait_for("opened")
        assert opened["mime_type"].startswith('video/mp4; codecs="avc1.')
        assert (opened["width"], opened["height"]) == (96, 64)
        await page.wait_for_media(3)
        await page.send("text", text="Hello there my friend.")
        await page.send("end")
        started = await page.wait_for("started")
        assert started["stream_start_s"] > 0
        await page.wait_for("finished")
        times = page.frame_times()
        gaps = np.diff(times)
        assert len(times) > 10
        assert np.allclose(gaps, 0.04, atol=0.002)
    session = (await harness.http.get("/v1/sessions/s1")).json()
    assert [clip["text"] for clip in session["conversation"]["clips"]] == ["Hello there my friend."]


async def test_a_reconnecting_player_resumes(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        stream = (await page.wait_for("opened"))["stream"]
        await page.wait_for_media(8)
        before = page.media
        end = page.frame_times()[-1] + 0.04
    async with player(harness, f"?stream={stream}&position={end}&after={sequence(before[-1])}") as page:
        opened = await page.wait_for("opened")
        assert (opened["stream"], opened["resumed"]) == (stream, True)
        await page.wait_for_media(6)
        page.media = before + page.media
        assert [sequence(one) for one in page.media[1:]] == list(range(1, len(page.media)))
        times = page.frame_times()
        assert times[-1] > end
        assert np.allclose(np.diff(times), 0.04, atol=0.002)
    async with player(harness, f"?stream={stream}&position={end - 0.1}&after=99999") as page:
        opened = await page.wait_for("opened")
        assert (opened["stream"], opened["resumed"]) == (stream, False)
        assert opened["begin_s"] == pytest.approx(end - 0.1)
        await page.wait_for_media(4)
        assert page.frame_times()[0] <= end - 0.1, "from the key frame before the position"
    async with player(harness, "?stream=another&position=1000&after=3") as page:
        opened = await page.wait_for("opened")
        assert opened["resumed"] is False
        assert opened["begin_s"] < 1000
    for query in ("?after=-1", "?after=x", "?position=x"):
        async with player(harness, query) as page:
            assert (await page.wait_for("error"))["reason"] == "INVALID_INPUT"


async def test_plain_mp4_is_live_and_resumes_at_a_position(harness: GatewayHarness) -> None:
    data, count = b"", 0
    async with harness.http.stream("GET", "/v1/sessions/s1/live.mp4") as answer:
        assert answer.headers["content-type"] == "video/mp4"
        stream = answer.headers["x-stream"]
        async for chunk in answer.aiter_raw():
            data, count = data + chunk, count + 1
            if count > 8:
                break
    with av.open(io.BytesIO(data)) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 8
    data = b""
    async with harness.http.stream("GET", f"/v1/sessions/s1/live.mp4?stream={stream}&position=0.25") as answer:
        assert (answer.headers["x-stream"], float(answer.headers["x-position"])) == (stream, 0.25)
        async for chunk in answer.aiter_raw():
            data += chunk
            if len(data) > 6000:
                break
    with av.open(io.BytesIO(data)) as file:
        times = [float(frame.time or 0) for frame in file.decode(video=0)]
    assert times[0] == pytest.approx(-0.25, abs=1e-4), "earlier frames are present for decoding, not for display"
    assert np.allclose(np.diff(times), 0.04, atol=0.002)


def test_an_edit_list_is_added_to_every_track_and_nothing_else_changes() -> None:
    encoder = LiveEncoder(64, 48, LiveSettings())
    head = encoder.head.data
    encoder.close()
    edited = add_edit_list(head, 12.5)
    assert edited.count(b"edts") == edited.count(b"elst") == 2
    assert edited.count((600_000).to_bytes(8, "big")) == 2, "12.5 s at 48 kHz, for video and audio"
    assert len(edited) == len(head) + 2 * 44
    for part in (b"ftyp", b"mvhd", b"trex"):
        offset = head.index(part)
        assert head[offset : offset + 24] in edited


async def test_audio_is_spoken_back(harness: GatewayHarness) -> None:
    audio = (syllables(0.6) * 32767).astype("<i2").tobytes()
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.socket.send(audio[:9_000])
        await page.send("pcm", data=base64.b64encode(audio[9_000:]).decode())
        await page.send("end")
        await page.wait_for("finished")
    clips = (await harness.http.get("/v1/sessions/s1")).json()["conversation"]["clips"]
    assert [(clip["text"], clip["frames"] >= 15) for clip in clips] == [("", True)]


async def test_the_built_in_bot_echoes_and_asks(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.send("ask", text="I like rain.")
        assert (await page.wait_for("answer"))["text"].startswith("I see. You said: I like rain.")
        await page.wait_for("finished")
        await page.send("ask", text="And snow.")
        assert "tell me more" in (await page.wait_for("answer"))["text"]
    assert harness.voice.sentences[:2] == ["I see.", "You said: I like rain."]


async def test_an_interrupt_keeps_the_played_part(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.send("text", text="word " * 60)
        await page.send("end")
        started = await page.wait_for("started")
        await page.wait_for_media(len(page.media) + 10)
        await page.send("interrupt", position=started["stream_start_s"] + 0.4)
        await page.wait_for("interrupted")
        await page.wait_for("finished")
        await page.send("text", text="Again.")
        await page.send("end")
        await page.wait_for("finished")
    clips = (await harness.http.get("/v1/sessions/s1")).json()["conversation"]["clips"]
    assert len(clips) == 2
    assert clips[0]["duration_s"] < 1.0


async def test_a_reset_ends_the_stream_and_the_next_connection_starts_a_new_one(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        first = (await page.wait_for("opened"))["stream"]
        await harness.http.post("/v1/sessions/s1/reset")
        assert (await page.wait_for("error"))["reason"] == "INTERRUPTED"
        with pytest.raises(ConnectionClosed) as closed:
            await page.wait_for("nothing")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4000
    async with player(harness) as page:
        assert (await page.wait_for("opened"))["stream"] != first


async def test_a_speak_is_rejected_while_a_page_is_open(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        await page.wait_for("opened")
        busy = await harness.speak("Hello.")
        assert (busy.status_code, busy.json()["reason"]) == (429, "BUSY")
        stopped = await harness.http.post("/v1/sessions/s1/interrupt")
        assert stopped.json() == {"played_s": None}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("not json", "not JSON"),
        ("[1]", "not an object"),
        ('{"type": "dance"}', "no message of type"),
        ('{"type": "text"}', "no text"),
        ('{"type": "ask", "text": 5}', "no text"),
        (json.dumps({"type": "text", "text": "x" * 5001}), "5001 characters"),
        ('{"type": "pcm", "data": "???"}', "not base64"),
        ('{"type": "playback", "position": "NaN"}', "position"),
        ('{"type": "interrupt", "position": -1}', "position"),
        (b"odd", "3 bytes"),
    ],
)
async def test_a_bad_message_is_answered_and_the_stream_continues(
    harness: GatewayHarness, message: str | bytes, words: str
) -> None:
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.socket.send(message)
        error = await page.wait_for("error")
        assert error["reason"] == "INVALID_INPUT"
        assert words in error["detail"]
        await page.wait_for_media(len(page.media) + 2)


async def test_mixed_text_and_audio_end_the_stream_and_the_next_connection_works(harness: GatewayHarness) -> None:
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.send("text", text="Half a ")
        await page.socket.send(bytes(3200))
        error = await page.wait_for("error")
        assert error["reason"] == "INVALID_INPUT"
        assert "mixes text and audio" in error["detail"]
        with pytest.raises(ConnectionClosed):
            await page.wait_for("nothing")
    async with player(harness) as page:
        await page.send("text", text="Again.")
        await page.send("end")
        await page.wait_for("finished")


async def test_rejected_connections(harness: GatewayHarness, tmp_path: Path) -> None:
    for session_id, reason in (("nobody", "NOT_FOUND"), ("S!", "INVALID_INPUT")):
        async with player(harness, session_id=session_id) as page:
            assert (await page.wait_for("error"))["reason"] == reason
            with pytest.raises(ConnectionClosed):
                await page.wait_for("nothing")
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{harness.address}/v1/sessions/s1/live", origin="https://evil.example")  # type: ignore[arg-type]
    async with player(harness) as page:
        await page.wait_for("opened")
        await page.socket.send(b"x" * (2 << 20))
        with pytest.raises(ConnectionClosed) as closed:
            await page.wait_for("nothing")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


async def test_a_page_token_opens_its_own_live_video_alone(tmp_path: Path) -> None:
    async with running(tmp_path, api_key="secret") as harness:
        key = {"X-Internal-API-Key": "secret"}
        for session_id in ("s1", "s2"):
            await harness.http.post("/v1/sessions", json={"session_id": session_id, "avatar_id": "ann"}, headers=key)
        token = (await harness.http.post("/v1/token", json={"session_id": "s1"}, headers=key)).json()["token"]
        async with player(harness, f"?token={token}") as page:
            await page.wait_for("opened")
        for path in (f"s2/live?token={token}", "s1/live", "s1/live?token=x"):
            with pytest.raises(InvalidStatus):
                await connect(f"ws://{harness.address}/v1/sessions/{path}")


@asynccontextmanager
async def fixed_server(answers: dict[str, bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serves one fixed body per path, else 404. Yields (base URL, received requests)."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        requests.append(head + await reader.readexactly(length))
        body = answers.get(head.split()[1].decode(), b"")
        status = b"200 OK" if body else b"404 Not Found"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests


def sse_delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


async def test_chat_and_transcription_servers(tmp_path: Path) -> None:
    chat = sse_delta("Rain is") + b": a comment\n\n" + sse_delta(" lovely.") + b"data: [DONE]\n\n"
    fixed = {"/v1/chat/completions": chat, "/v1/audio/transcriptions": b'{"text": " I like rain. "}'}
    async with (
        fixed_server(fixed) as (url, requests),
        running(tmp_path, chat_url=url, chat_key="k", transcriptions_url=url) as harness,
    ):
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        transcribed = await harness.http.post("/v1/transcriptions", content=wav(syllables(0.3)))
        assert transcribed.json() == {"text": "I like rain."}
        assert b"whisper-1" in requests[0]
        async with player(harness) as page:
            await page.wait_for("opened")
            await page.send("ask", text="I like rain.")
            await page.wait_for("finished")
            answer = "".join(event["text"] for event in page.events if event["event"] == "answer")
        assert answer == "Rain is lovely."
        assert harness.voice.sentences == ["Rain is lovely."]
        assert b"authorization: bearer k" in requests[1].lower()
        assert json.loads(requests[1].partition(b"\r\n\r\n")[2])["stream"] is True


async def test_unreachable_chat_and_transcription_servers_are_reported(tmp_path: Path) -> None:
    async with (
        fixed_server({}) as (url, _),
        running(tmp_path, chat_url=url, transcriptions_url="http://127.0.0.1:9/v1") as harness,
    ):
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        transcribed = await harness.http.post("/v1/transcriptions", content=b"RIFF")
        assert (transcribed.status_code, transcribed.json()["reason"]) == (503, "UNREACHABLE")
        async with player(harness) as page:
            await page.wait_for("opened")
            await page.send("ask", text="Hello.")
            assert "refused with 404" in (await page.wait_for("error"))["detail"]
            await page.wait_for_media(len(page.media) + 2)


async def test_transcription_needs_a_configured_server(harness: GatewayHarness) -> None:
    rejected = await harness.http.post("/v1/transcriptions", content=b"RIFF")
    assert (rejected.status_code, rejected.json()["reason"]) == (409, "NOT_READY")
