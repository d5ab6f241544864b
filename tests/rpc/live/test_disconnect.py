"""Clients of a live conversation that do not read, send without end, or vanish without closing the call."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc
import numpy as np

from tests.audio import syllables
from tests.fakes import encode, make_avatar
from tests.rpc.live.client import ConverseClient, pcm, seconds
from tests.rpc.session.harness import SessionHarness
from warmtalk.rpc.client import channel
from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub


class BlackHoleProxy:
    """A TCP proxy to the service whose connection can be cut without either side noticing."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._pumps: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> BlackHoleProxy:
        self._server = await asyncio.start_server(self._join, self._host, 0)
        self.address = f"{self._host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.swallow()
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.close()

    def swallow(self) -> None:
        """Stops all traffic; both sockets stay open."""
        for pump in self._pumps:
            pump.cancel()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._ends += [writer, far_writer]
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._pumps.add(asyncio.create_task(_pump(source, target)))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()


async def test_client_that_does_not_read_stops_only_its_own_stream(service: SessionHarness, tmp_path: Path) -> None:
    path = make_avatar(tmp_path / "avatars", "noisy", size=(640, 480))
    noise = np.random.default_rng(3)
    frames = [noise.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(7)]
    await asyncio.to_thread(encode, frames, path / "frames" / "00000.mp4")
    await service.create("s2", "noisy")
    stalled = service.stub.Converse()
    await stalled.write(pb.ConverseRequest(config=pb.ConverseConfig(session_id="s2")))
    assert service.parts is not None
    while (stream := service.parts.sessions.find("s2").stream) is None:
        await asyncio.sleep(0.05)
    queue = stream.event_queue
    async with asyncio.timeout(30):
        while queue.unread_fragments <= 8:
            await asyncio.sleep(0.05)
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(1.0))
        await client.wait_for("finished")
    assert queue.unread_fragments == 9, "the stream stands still"
    numbers = [(await read_fragment(stalled)).sequence for _ in range(20)]
    assert numbers == list(range(20)), "the stream continues where it stood still"
    stalled.cancel()


async def read_fragment(call: grpc.aio.StreamStreamCall[pb.ConverseRequest, pb.ConverseResponse]) -> pb.MediaFragment:
    async with asyncio.timeout(20):
        while True:
            response = await call.read()
            assert isinstance(response, pb.ConverseResponse)
            if response.event.WhichOneof("event") == "fragment":
                return response.event.fragment


async def test_audio_sent_too_fast_is_not_read(service: SessionHarness) -> None:
    """100 s at once: the writer waits, no audio is lost, and an interrupt is still received."""
    sent = 0
    chunk = pcm(syllables(1.0))

    async def write(client: ConverseClient) -> None:
        nonlocal sent
        for _ in range(100):
            await client.send(pcm_s16le=chunk)
            sent += 1

    async with ConverseClient(service) as client:
        writer = asyncio.create_task(write(client))
        await client.wait_for("started")
        await asyncio.sleep(1.0)
        assert 30 < sent < 70
        assert (await service.stub.Interrupt(pb.InterruptRequest(session_id="s1"))).HasField("played")
        await client.wait_for("finished")
        await asyncio.wait_for(writer, 20)


async def test_half_open_client_does_not_block_its_session(service: SessionHarness) -> None:
    assert service.parts is not None
    async with BlackHoleProxy(service.parts.server.address) as proxy, channel(proxy.address) as link:
        gone = SessionServiceStub(link).Converse()
        await gone.write(pb.ConverseRequest(config=pb.ConverseConfig(session_id="s1")))
        await gone.write(pb.ConverseRequest(pcm_s16le=pcm(syllables(2.0))))
        while not (await read_fragment(gone)).speech:
            pass
        proxy.swallow()
        async with ConverseClient(service) as client:
            await client.send_speech(syllables(0.5))
            finished = await client.wait_for("finished")
            assert finished.finished.frames >= 12
            assert seconds(client.events_of("started")[0].started.stream_start) >= 0
        gone.cancel()
    await service.wait_idle()
    assert len((await service.conversation()).clips) == 1


async def test_silent_sockets(service: SessionHarness) -> None:
    assert service.parts is not None
    host, _, port = service.parts.server.address.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
    for number, (_, writer) in enumerate(silent):
        writer.write([b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(200)][number % 4])
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(0.5))
        await client.wait_for("finished")
    for _, writer in silent:
        writer.close()
