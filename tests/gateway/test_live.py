"""Live video over WebSocket and plain HTTP: a real session service behind a real gateway."""

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
from warmtalk.services.gateway.live.edit_list import starting_at


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running(tmp_path) as one:
        await one.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        yield one


async def test_a_text_is_said_live_and_kept(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        opened = await page.until("opened")
        assert opened["mime_type"].startswith('video/mp4; codecs="avc1.')
        assert (opened["width"], opened["height"]) == (96, 64)
        await page.watch(3)
        await page.send("text", text="Hello there my friend.")
        await page.send("end")
        started = await page.until("started")
        assert started["stream_start_s"] > 0
        await page.until("finished")
        times = page.frames()
        gaps = np.diff(times)
        assert len(times) > 10
        assert np.allclose(gaps, 0.04, atol=0.002)
    session = (await desk.http.get("/v1/sessions/s1")).json()
    assert [clip["text"] for clip in session["conversation"]["clips"]] == ["Hello there my friend."]


async def test_a_player_that_comes_back_goes_on_where_it_was(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        stream = (await page.until("opened"))["stream"]
        await page.watch(8)
        before = page.media
        end = page.frames()[-1] + 0.04
    async with player(desk, f"?stream={stream}&position={end}&after={sequence(before[-1])}") as page:
        opened = await page.until("opened")
        assert (opened["stream"], opened["resumed"]) == (stream, True)
        await page.watch(6)
        page.media = before + page.media
        assert [sequence(one) for one in page.media[1:]] == list(range(1, len(page.media)))
        times = page.frames()
        assert times[-1] > end
        assert np.allclose(np.diff(times), 0.04, atol=0.002)
    async with player(desk, f"?stream={stream}&position={end - 0.1}&after=99999") as page:
        opened = await page.until("opened")
        assert (opened["stream"], opened["resumed"]) == (stream, False)
        assert opened["begin_s"] == pytest.approx(end - 0.1)
        await page.watch(4)
        assert page.frames()[0] <= end - 0.1, "from the key picture before it"
    async with player(desk, "?stream=another&position=1000&after=3") as page:
        opened = await page.until("opened")
        assert opened["resumed"] is False
        assert opened["begin_s"] < 1000
    for query in ("?after=-1", "?after=x", "?position=x"):
        async with player(desk, query) as page:
            assert (await page.until("error"))["reason"] == "INVALID_INPUT"


async def test_plain_video_is_live_too(desk: GatewayHarness) -> None:
    data, pieces = b"", 0
    async with desk.http.stream("GET", "/v1/sessions/s1/live.mp4") as answer:
        assert answer.headers["content-type"] == "video/mp4"
        stream = answer.headers["x-stream"]
        async for piece in answer.aiter_raw():
            data, pieces = data + piece, pieces + 1
            if pieces > 8:
                break
    with av.open(io.BytesIO(data)) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 8
    data = b""
    async with desk.http.stream("GET", f"/v1/sessions/s1/live.mp4?stream={stream}&position=0.25") as answer:
        assert (answer.headers["x-stream"], float(answer.headers["x-position"])) == (stream, 0.25)
        async for piece in answer.aiter_raw():
            data += piece
            if len(data) > 6000:
                break
    with av.open(io.BytesIO(data)) as file:
        times = [float(frame.time or 0) for frame in file.decode(video=0)]
    assert times[0] == pytest.approx(-0.25, abs=1e-4), "the pictures before it are there to be decoded, not shown"
    assert np.allclose(np.diff(times), 0.04, atol=0.002)


def test_an_edit_list_is_added_to_every_track_and_nothing_else_changes() -> None:
    encoder = LiveEncoder(64, 48, LiveSettings())
    head = encoder.head.data
    encoder.close()
    edited = starting_at(head, 12.5)
    assert edited.count(b"edts") == edited.count(b"elst") == 2
    assert edited.count((600_000).to_bytes(8, "big")) == 2, "12.5 s at 48 kHz, of picture and sound"
    assert len(edited) == len(head) + 2 * 44
    for part in (b"ftyp", b"mvhd", b"trex"):
        place = head.index(part)
        assert head[place : place + 24] in edited


async def test_sound_is_said_back(desk: GatewayHarness) -> None:
    sound = (syllables(0.6) * 32767).astype("<i2").tobytes()
    async with player(desk) as page:
        await page.until("opened")
        await page.socket.send(sound[:9_000])
        await page.send("pcm", data=base64.b64encode(sound[9_000:]).decode())
        await page.send("end")
        await page.until("finished")
    clips = (await desk.http.get("/v1/sessions/s1")).json()["conversation"]["clips"]
    assert [(clip["text"], clip["frames"] >= 15) for clip in clips] == [("", True)]


async def test_the_built_in_partner_asks_back(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        await page.until("opened")
        await page.send("ask", text="I like rain.")
        assert (await page.until("answer"))["text"].startswith("I see. You said: I like rain.")
        await page.until("finished")
        await page.send("ask", text="And snow.")
        assert "tell me more" in (await page.until("answer"))["text"]
    assert desk.voice.said[:2] == ["I see.", "You said: I like rain."]


async def test_an_interrupt_stops_and_keeps_what_was_played(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        await page.until("opened")
        await page.send("text", text="word " * 60)
        await page.send("end")
        started = await page.until("started")
        await page.watch(len(page.media) + 10)
        await page.send("interrupt", position=started["stream_start_s"] + 0.4)
        await page.until("interrupted")
        await page.until("finished")
        await page.send("text", text="Again.")
        await page.send("end")
        await page.until("finished")
    clips = (await desk.http.get("/v1/sessions/s1")).json()["conversation"]["clips"]
    assert len(clips) == 2
    assert clips[0]["duration_s"] < 1.0


async def test_a_reset_ends_the_stream_and_the_next_connection_begins_anew(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        first = (await page.until("opened"))["stream"]
        await desk.http.post("/v1/sessions/s1/reset")
        assert (await page.until("error"))["reason"] == "INTERRUPTED"
        with pytest.raises(ConnectionClosed) as closed:
            await page.until("nothing")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4000
    async with player(desk) as page:
        assert (await page.until("opened"))["stream"] != first


async def test_a_speak_does_not_wait_for_an_open_page(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        await page.until("opened")
        busy = await desk.say("Hello.")
        assert (busy.status_code, busy.json()["reason"]) == (429, "BUSY")
        stopped = await desk.http.post("/v1/sessions/s1/interrupt")
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
async def test_a_bad_message_is_answered_and_the_stream_goes_on(
    desk: GatewayHarness, message: str | bytes, words: str
) -> None:
    async with player(desk) as page:
        await page.until("opened")
        await page.socket.send(message)
        error = await page.until("error")
        assert error["reason"] == "INVALID_INPUT"
        assert words in error["detail"]
        await page.watch(len(page.media) + 2)


async def test_text_and_sound_mixed_end_the_stream_and_the_next_connection_works(desk: GatewayHarness) -> None:
    async with player(desk) as page:
        await page.until("opened")
        await page.send("text", text="Half a ")
        await page.socket.send(bytes(3200))
        error = await page.until("error")
        assert error["reason"] == "INVALID_INPUT"
        assert "mixes text and sound" in error["detail"]
        with pytest.raises(ConnectionClosed):
            await page.until("nothing")
    async with player(desk) as page:
        await page.send("text", text="Again.")
        await page.send("end")
        await page.until("finished")


async def test_connections_that_are_refused(desk: GatewayHarness, tmp_path: Path) -> None:
    for session_id, reason in (("nobody", "NOT_FOUND"), ("S!", "INVALID_INPUT")):
        async with player(desk, session_id=session_id) as page:
            assert (await page.until("error"))["reason"] == reason
            with pytest.raises(ConnectionClosed):
                await page.until("nothing")
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{desk.address}/v1/sessions/s1/live", origin="https://evil.example")  # type: ignore[arg-type]
    async with player(desk) as page:
        await page.until("opened")
        await page.socket.send(b"x" * (2 << 20))
        with pytest.raises(ConnectionClosed) as closed:
            await page.until("nothing")
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


async def test_a_token_opens_its_own_live_video_alone(tmp_path: Path) -> None:
    async with running(tmp_path, api_key="secret") as desk:
        key = {"X-Internal-API-Key": "secret"}
        for session_id in ("s1", "s2"):
            await desk.http.post("/v1/sessions", json={"session_id": session_id, "avatar_id": "ann"}, headers=key)
        token = (await desk.http.post("/v1/token", json={"session_id": "s1"}, headers=key)).json()["token"]
        async with player(desk, f"?token={token}") as page:
            await page.until("opened")
        for place in (f"s2/live?token={token}", "s1/live", "s1/live?token=x"):
            with pytest.raises(InvalidStatus):
                await connect(f"ws://{desk.address}/v1/sessions/{place}")


@asynccontextmanager
async def openai(answers: dict[str, bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server of another make: one fixed answer a path. (its URL, the requests that it got)"""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        got.append(head + await reader.readexactly(length))
        body = answers.get(head.split()[1].decode(), b"")
        status = b"200 OK" if body else b"404 Not Found"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", got


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


async def test_chat_and_transcription_servers(tmp_path: Path) -> None:
    chat = chunk("Rain is") + b": a comment\n\n" + chunk(" lovely.") + b"data: [DONE]\n\n"
    fixed = {"/v1/chat/completions": chat, "/v1/audio/transcriptions": b'{"text": " I like rain. "}'}
    async with (
        openai(fixed) as (url, got),
        running(tmp_path, chat_url=url, chat_key="k", transcriptions_url=url) as desk,
    ):
        await desk.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        heard = await desk.http.post("/v1/transcriptions", content=wav(syllables(0.3)))
        assert heard.json() == {"text": "I like rain."}
        assert b"whisper-1" in got[0]
        async with player(desk) as page:
            await page.until("opened")
            await page.send("ask", text="I like rain.")
            await page.until("finished")
            answer = "".join(event["text"] for event in page.events if event["event"] == "answer")
        assert answer == "Rain is lovely."
        assert desk.voice.said == ["Rain is lovely."]
        assert b"authorization: bearer k" in got[1].lower()
        assert json.loads(got[1].partition(b"\r\n\r\n")[2])["stream"] is True


async def test_servers_that_do_not_answer_are_said_to(tmp_path: Path) -> None:
    async with (
        openai({}) as (url, _),
        running(tmp_path, chat_url=url, transcriptions_url="http://127.0.0.1:9/v1") as desk,
    ):
        await desk.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        heard = await desk.http.post("/v1/transcriptions", content=b"RIFF")
        assert (heard.status_code, heard.json()["reason"]) == (503, "UNREACHABLE")
        async with player(desk) as page:
            await page.until("opened")
            await page.send("ask", text="Hello.")
            assert "refused with 404" in (await page.until("error"))["detail"]
            await page.watch(len(page.media) + 2)


async def test_without_a_transcription_server_it_says_so(desk: GatewayHarness) -> None:
    refused = await desk.http.post("/v1/transcriptions", content=b"RIFF")
    assert (refused.status_code, refused.json()["reason"]) == (409, "NOT_READY")
