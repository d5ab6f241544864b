"""Clients of live video that drop, stop in the middle, or do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.gateway.harness import GatewayHarness, running
from tests.gateway.player import WITHIN_S, player, sequence
from warmtalk.services.gateway.live.broadcast import Broadcast, Viewer
from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer

CLOSE = b"Host: localhost\r\nConnection: close\r\n"


async def test_a_hundred_sessions_that_come_and_drop_leave_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.registry.LINGER_S", 0.1)
    async with running(tmp_path) as desk:
        host, _, port = desk.address.partition(":")
        for number in range(100):
            session_id = f"s{number}" if number % 4 else f"unknown-{number}"
            if number % 4:
                await desk.http.post("/v1/sessions", json={"session_id": session_id, "avatar_id": "ann"})
            if number % 2:
                async with player(desk, session_id=session_id) as page:
                    await page.take()
            else:
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET /v1/sessions/{session_id}/live.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await reader.read(10)
                writer.transport.abort()
        while any(desk.live(f"s{number}") for number in range(100)):
            await asyncio.sleep(0.05)
        for number in (1, 99):
            session = (await desk.http.get(f"/v1/sessions/s{number}")).json()
            assert session["state"] == "idle"
            assert (await desk.say("Hello.", f"s{number}")).status_code == 200


async def test_connections_without_a_request_and_bodies_without_an_end_are_given_up(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.wiring._SILENCE_S", 0.3)
    monkeypatch.setattr("warmtalk.services.gateway.access._SILENCE_S", 0.3)
    halves = [
        b"",
        b"GET /v1/sessions HTTP/1.1\r\nHost: local",
        b"GET /v1/sessions/s1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
        b"POST /v1/speak HTTP/1.1\r\n" + CLOSE + b"Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{",
        b"POST /v1/avatars?avatar_id=x HTTP/1.1\r\n" + CLOSE + b"Content-Length: 9000\r\n\r\n\x89PNG",
    ]
    async with running(tmp_path) as desk:
        host, _, port = desk.address.partition(":")
        for half in halves:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(half)
            async with asyncio.timeout(WITHIN_S):
                answer = await reader.read()  # until the server closes, or has answered and waits for the next request
            if half.startswith(b"POST"):
                assert b" 408 " in answer.splitlines()[0]
            else:
                assert answer == b""
            writer.close()
        await desk.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        async with player(desk) as page:  # what is silent after its request is no half of anything
            await page.until("opened")
            await page.watch(12)


async def test_a_slow_reader_slows_nobody_and_memory_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast.Ring", lambda: ReplayBuffer(most_s=1.0))
    async with running(tmp_path) as desk:
        await desk.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        reader, writer = await slow_reader(desk)
        async with player(desk) as page:
            await page.until("opened")
            await page.watch(30)
            live = desk.live("s1")
            assert live
            assert live.ring.nbytes < sum(map(len, page.media))
            numbers = [sequence(one) for one in page.media[1:]]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
        late = await reader.readuntil(b"moof")
        assert b"moov" in late
        writer.transport.abort()


async def test_readers_that_take_nothing_stop_the_stream_and_are_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast._AHEAD", 5)
    monkeypatch.setattr("warmtalk.services.gateway.live.broadcast._GIVE_UP_S", 1.0)
    async with running(tmp_path) as desk:
        await desk.http.post("/v1/sessions", json={"session_id": "s1", "avatar_id": "ann"})
        monkeypatch.setattr(Broadcast, "took", lambda self: None)  # as if the sockets held nothing
        monkeypatch.setattr(Viewer, "pieces", nothing)
        _, writer = await slow_reader(desk)
        live = desk.live("s1")
        assert live
        while live.ended is None:
            assert live.ring.last <= 6
            await asyncio.sleep(0.02)
        assert live.ended.reason == "INTERRUPTED"
        assert live.ring.nbytes == 0
        assert (await desk.say("Hello.")).status_code == 200, "the session is free again"
        writer.transport.abort()


async def nothing(viewer: Viewer) -> AsyncIterator[BufferedFragment]:
    """Of a player that reads nothing."""
    while viewer.live.ended is None:
        await asyncio.sleep(0.01)
    for piece in ():
        yield piece


async def slow_reader(desk: GatewayHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A plain player that has read the head of the answer and pauses."""
    host, _, port = desk.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    writer.write(b"GET /v1/sessions/s1/live.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer
