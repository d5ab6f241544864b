"""A page's connection to a live stream."""

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

WITHIN_S = 15


def sequence(fragment: bytes) -> int:
    """Its number, in the mfhd at the start of its moof."""
    assert fragment[4:8] == b"moof"
    return int.from_bytes(fragment[20:24], "big")


class Player:
    """A page's connection: what it got."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.media: list[bytes] = []

    async def send(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of this kind; all before it are kept."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                await self.take()
                if self.events and self.events[-1]["event"] == kind:
                    return self.events[-1]

    async def watch(self, pieces: int) -> None:
        """Until there are so many binary messages."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.media) < pieces:
                await self.take()

    async def take(self) -> None:
        message = await self.socket.recv()
        if isinstance(message, bytes):
            self.media.append(message)
            self.events = [*self.events, {"event": ""}] if self.events and self.events[-1]["event"] else self.events
        else:
            self.events.append(json.loads(message))

    def frames(self) -> list[float]:
        """Times of the pictures in what came."""
        with av.open(io.BytesIO(b"".join(self.media))) as file:
            return [float(frame.time or 0) for frame in file.decode(video=0)]


@asynccontextmanager
async def player(desk: GatewayHarness, query: str = "", session_id: str = "s1") -> AsyncIterator[Player]:
    async with connect(f"ws://{desk.address}/v1/sessions/{session_id}/live{query}", max_size=None) as socket:
        yield Player(socket)
