"""WebSocket client of a live stream, as the talk page uses it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av
from websockets.asyncio.client import ClientConnection, connect

from tests.gateway.harness import GatewayHarness

TIMEOUT_S = 15


def sequence(fragment: bytes) -> int:
    """Returns the sequence of a fragment, from the mfhd box at the start of the moof box."""
    assert fragment[4:8] == b"moof"
    return int.from_bytes(fragment[20:24], "big")


class Player:
    """A WebSocket connection with the events and binary messages received so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.media: list[bytes] = []

    async def send(self, kind: str, **fields: object) -> None:
        """Sends a JSON message."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def wait_for(self, kind: str) -> dict[str, Any]:
        """Returns the next event of this kind; all messages before are kept."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                await self.receive()
                if self.events and self.events[-1]["event"] == kind:
                    return self.events[-1]

    async def wait_for_media(self, count: int) -> None:
        """Receives until there are `count` binary messages in all."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.media) < count:
                await self.receive()

    async def receive(self) -> None:
        """Receives one message. An empty event marks binary messages between events."""
        message = await self.socket.recv()
        if isinstance(message, bytes):
            self.media.append(message)
            self.events = [*self.events, {"event": ""}] if self.events and self.events[-1]["event"] else self.events
        else:
            self.events.append(json.loads(message))

    def frame_times(self) -> list[float]:
        """Returns the times of the video frames in all media received, in seconds."""
        with av.open(io.BytesIO(b"".join(self.media))) as file:
            return [float(frame.time or 0) for frame in file.decode(video=0)]


@asynccontextmanager
async def player(harness: GatewayHarness, query: str = "", session_id: str = "s1") -> AsyncIterator[Player]:
    """Connects to the live stream of a session."""
    async with connect(f"ws://{harness.address}/v1/sessions/{session_id}/live{query}", max_size=None) as socket:
        yield Player(socket)
