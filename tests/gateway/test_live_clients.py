"""Live video clients that disconnect, send half a request, or do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.gateway.harness import GatewayHarness, running
from tests.gateway.player import TIMEOUT_S, player, sequence
from warmtalk.services.gateway.live.broadcast import Broadcast, Viewer
from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer

CLOSE = b"Host: localhost\r\nConnection: close\r\n"


async def test_a_hundred_dropped_connections_leave_no_stream(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.registry.LINGER_S", 0.1)
    async with running(tmp_path) as harness:
        host, _, port = harness.address.partition(":")
        for number in range(100):
            session_id = f"s{number}" if number % 4 else f"unknown-{number}"
            if number % 4:
                await harness.http.post("/v1/sessions", json={"session_id": session_id, "avatar_id": "ann"})
            if number % 2:
                async with player(harness, session_id=session_id) as page:
                    await page.receive()
            else:
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET /v1/sessions/{session_id}/live.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await reader.read(10)
                writer.transport.abort()
        while any(harness.live_stream(f"s{number}") for number in range(100)):
            await asyncio.sleep(0.05)
        for number in (1, 99):
            session = (await harness.http.get(f"/v1/sessions/s{number}")).json()
            assert session["state"] == "idle"
            assert (await harness.speak("Hello.", f"s{number}")).status_code == 200


async def test_incomplete_requests_and_bodies_time_out(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.wiring._HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr("warmtalk.services.gateway.body_limit._IDLE_TIMEOUT_S", 0.3)
    halves = [
        b"",
        b"GET /v1/sessions HTTP/1.1\r\nHost: local",
        b"GET /v1/sessions/s1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
        b"POST /v1/speak HTTP/1.1\r\n" + CLOSE + b"Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{",
        b"POST /v1/avatars?avatar_id=x HTTP/1.1\r\n" + CLOSE + b"Content-Length: 9000\r\n\r\n\x89PNG",
    ]
    async with running(tmp_path) as harness:
        host, _, port = harness.address.partition(":")
        for half in halves:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(half)
            async with asyncio.timeout(TIMEOUT_S):
                answer = await reader.read()  # until the server closes the connection
            if half.startswith(b"POST"):
                assert b" 408 " in answer.splitlines()[0]
            else:
                assert answer == b""
            writer.close()
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        async with player(harness) as page:  # the timeouts do not apply after a complete request
            await page.wait_for("opened")
            await page.wait_for_media(12)


async def test_a_slow_reader_does_not_slow_others_and_memory_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast.ReplayBuffer", lambda: ReplayBuffer(max_s=1.0))
    async with running(tmp_path) as harness:
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        reader, writer = await slow_reader(harness)
        async with player(harness) as page:
            await page.wait_for("opened")
            await page.wait_for_media(30)
            live = harness.live_stream("s1")
            assert live
            assert live.replay.nbytes < sum(map(len, page.media))
            numbers = [sequence(one) for one in page.media[1:]]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
        late = await reader.readuntil(b"moof")
        assert b"moov" in late
        writer.transport.abort()


async def test_a_stream_whose_viewers_read_nothing_is_closed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast._MAX_LAG", 5)
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast._IDLE_TIMEOUT_S", 1.0)
    async with running(tmp_path) as harness:
        await harness.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        monkeypatch.setattr(Broadcast, "note_fragment_taken", lambda self: None)  # as if socket buffers were full
        monkeypatch.setattr(Viewer, "fragments", no_fragments)
        _, writer = await slow_reader(harness)
        live = harness.live_stream("s1")
        assert live
        while live.end_reason is None:
            assert live.replay.last_sequence <= 6
            await asyncio.sleep(0.02)
        assert live.end_reason.reason == "INTERRUPTED"
        assert live.replay.nbytes == 0
        assert (await harness.speak("Hello.")).status_code == 200, "the session is free again"
        writer.transport.abort()


async def no_fragments(viewer: Viewer) -> AsyncIterator[BufferedFragment]:
    """Yields nothing until the stream ends, like a viewer that does not read."""
    while viewer.broadcast.end_reason is None:
        await asyncio.sleep(0.01)
    for fragment in ():
        yield fragment


async def slow_reader(harness: GatewayHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects a plain player that has read the response head and pauses."""
    host, _, port = harness.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    writer.write(b"GET /v1/sessions/s1/live.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer
