"""A long live conversation: does sound stay with the picture, and memory where it was?

One stream talks all the time and is interrupted at every fifth utterance; beside it, clients of a second session come,
speak and vanish without a word.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
import soxr

from benchmarks import process_usage, seams
from benchmarks.live_client import RATE_HZ, Client, seconds
from warmtalk.v1 import session_pb2 as pb

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_WARM_S = 60.0
"""In this time services load what they keep: rows of the avatar, pictures, the pools of their threads."""
_REPORT_S = 30.0
_INTERRUPT_EVERY = 5
_FRAME = 1920
"""Samples, 40 ms at 48 kHz."""
_MOST_OFFSET_MS, _MOST_GROWTH_MB = 20.0, 48.0

Sound = npt.NDArray[np.float32]
Rows = list[tuple[str, float, str]]


@dataclass(slots=True)
class _Log:
    offsets_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    """Once a second, from when all is warm."""


async def measure(stub: SessionServiceAsyncStub, length_s: float, said: Sound) -> Rows:
    """Of sessions s0 and s1, which are there. `said` is 16 kHz."""
    client = Client(stub, "s0")
    await client.open(fragment_ms=100)
    end, log = time.perf_counter() + length_s, _Log()
    await asyncio.gather(_converse(client, said, end, log), _come_and_go(stub, said, end), _watch(end, log))
    tail = client.fragments[-1].fragment
    late_s = client.fragments[-1].at - client.fragments[1].at - seconds(tail.start)
    await client.close()
    talk = (await stub.GetSession(pb.GetSessionRequest(session_id="s0"))).session.conversation
    third = max(1, len(log.rss_mb) // 3)
    growth = float(np.median(log.rss_mb[-third:]) - np.median(log.rss_mb[:third]))
    return [
        (
            "soak_av_offset_ms",
            max(log.offsets_ms, key=abs),
            f"ms, worst of {len(log.offsets_ms)} utterances (target 20)",
        ),
        (
            "soak_rss_growth_mb",
            growth,
            f"MiB that the last third holds more than the first (target {_MOST_GROWTH_MB:g})",
        ),
        ("soak_late_ms", late_s * 1000, f"ms that the stream is behind the wall clock after {length_s:g} s"),
        (
            "soak_ends_apart_ms",
            _ends_apart_ms(talk),
            f"ms between the ends of {talk.frames / 1500:.1f} recorded minutes",
        ),
    ]


def misses(rows: Rows) -> list[str]:
    """What a soak must not be, however slow the machine is."""
    found = {key: figure for key, figure, _ in rows}
    wrong = []
    if abs(found["soak_av_offset_ms"]) > _MOST_OFFSET_MS:
        wrong.append(f"sound and picture are {found['soak_av_offset_ms']:.1f} ms apart in the stream")
    if found["soak_ends_apart_ms"] > _MOST_OFFSET_MS:
        wrong.append(f"sound and picture end {found['soak_ends_apart_ms']:.1f} ms apart in the recording")
    if found["soak_rss_growth_mb"] > _MOST_GROWTH_MB:
        wrong.append(f"the services hold {found['soak_rss_growth_mb']:.0f} MiB more than at the start")
    return wrong


async def _converse(client: Client, said: Sound, end: float, log: _Log) -> None:
    pcm, wide, number = to_pcm(said), np.asarray(soxr.resample(said, RATE_HZ, 48_000), np.float32), 0
    while time.perf_counter() < end:
        number += 1
        client.forget()
        if number % _INTERRUPT_EVERY:
            await client.talk(pcm)
            log.offsets_ms.append(await asyncio.to_thread(_offset_ms, client.data(), wide, client.starts[-1]))
        else:
            await client.send(pcm)
            await asyncio.sleep(0.5)
            await client.interrupt_ms()


async def _come_and_go(stub: SessionServiceAsyncStub, said: Sound, end: float) -> None:
    while time.perf_counter() < end:
        client = Client(stub, "s1", keep_data=False)
        await client.open(fragment_ms=100)
        await client.send(to_pcm(said))
        await asyncio.sleep(1.0)
        await client.drop()
        await asyncio.sleep(1.0)


async def _watch(end: float, log: _Log) -> None:
    begin = reported = time.perf_counter()
    while (now := time.perf_counter()) < end:
        held = process_usage.rss_mb(encoders=False)
        if now - begin > _WARM_S:
            log.rss_mb.append(held)
        if now - reported > _REPORT_S and log.offsets_ms:
            reported = now
            worst = max(log.offsets_ms, key=abs)
            print(f"  {(now - begin) / 60:5.1f} min  {held:7.0f} MiB  A/V {worst:+.1f} ms at worst", file=sys.stderr)
        await asyncio.sleep(1.0)


def _offset_ms(data: bytes, said: Sound, start_s: float) -> float:
    """How much later the first frame's sound (48 kHz) is heard than the picture at `start_s`, its first, is shown.

    Only the first: where infer is late, picture and sound stand still together, which is no offset.
    """
    with av.open(io.BytesIO(data), "r") as file:
        pictures = [float(packet.pts * packet.time_base) for packet in file.demux(video=0) if packet.pts is not None]
    shown = min(pictures, key=lambda time: abs(time - start_s))
    with av.open(io.BytesIO(data), "r") as file:
        blocks = list(file.decode(audio=0))
    begin = blocks[0].time or 0.0
    place = max(0, round((shown - begin - 0.2) * 48_000))
    heard = np.concatenate([block.to_ndarray()[0] for block in blocks])[place : place + 24_000]
    return (seams.lag_s(heard, said[:_FRAME]) + begin + place / 48_000 - shown) * 1000


def _ends_apart_ms(talk: pb.Conversation) -> float:
    ends = []
    for kind in ("video", "audio"):
        with av.open(talk.uri.removeprefix("file://")) as file:
            ends.append(max(_packet_ends(file, kind)))
    return abs(ends[0] - ends[1]) * 1000


def _packet_ends(file: av.container.InputContainer, kind: str) -> Iterator[float]:
    for packet in file.demux(**{kind: 0}):
        if packet.pts is not None and packet.time_base is not None:
            yield float((packet.pts + (packet.duration or 0)) * packet.time_base)


def to_pcm(sound: Sound) -> npt.NDArray[np.int16]:
    return (np.clip(sound, -1, 1) * 32767).astype("<i2")
