"""Soak of a live conversation: audio and video stay together, and memory does not grow.

One stream speaks all the time and is interrupted at every fifth utterance; beside the stream, clients of a second
session connect, speak and vanish without closing the call.
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
from benchmarks.live_client import RATE_HZ, LiveClient, seconds
from warmtalk.v1 import session_pb2 as pb

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_WARM_UP_S = 60.0
"""Time in which services load what stays in memory: rows of the avatar, images, thread pools."""
_REPORT_S = 30.0
_INTERRUPT_EVERY = 5
_FRAME_SAMPLES = 1920
"""Samples of one frame: 40 ms at 48 kHz."""
_MAX_OFFSET_MS, _MAX_GROWTH_MB = 20.0, 48.0

Audio = npt.NDArray[np.float32]
Rows = list[tuple[str, float, str]]


@dataclass(slots=True)
class _Measurements:
    offsets_ms: list[float] = field(default_factory=list)
    """Offset between audio and video of each utterance."""
    rss_mb: list[float] = field(default_factory=list)
    """Memory of the services once a second, after the warm-up."""


async def measure(stub: SessionServiceAsyncStub, length_s: float, speech: Audio) -> Rows:
    """Returns the figures of a soak of `length_s`. Sessions s0 and s1 must exist; `speech` is 16 kHz."""
    client = LiveClient(stub, "s0")
    await client.open(fragment_ms=100)
    end, measured = time.perf_counter() + length_s, _Measurements()
    await asyncio.gather(
        _converse(client, speech, end, measured), _connect_and_vanish(stub, speech, end), _watch_memory(end, measured)
    )
    tail = client.fragments[-1].fragment
    late_s = client.fragments[-1].at - client.fragments[1].at - seconds(tail.start)
    await client.close()
    conversation = (await stub.GetSession(pb.GetSessionRequest(session_id="s0"))).session.conversation
    third = max(1, len(measured.rss_mb) // 3)
    growth = float(np.median(measured.rss_mb[-third:]) - np.median(measured.rss_mb[:third]))
    return [
        (
            "soak_av_offset_ms",
            max(measured.offsets_ms, key=abs),
            f"ms, worst of {len(measured.offsets_ms)} utterances (target 20)",
        ),
        (
            "soak_rss_growth_mb",
            growth,
            f"MiB held in the last third more than in the first (target {_MAX_GROWTH_MB:g})",
        ),
        ("soak_late_ms", late_s * 1000, f"ms of the stream behind the wall clock after {length_s:g} s"),
        (
            "soak_ends_apart_ms",
            _ends_apart_ms(conversation),
            f"ms between the ends of {conversation.frames / 1500:.1f} recorded minutes",
        ),
    ]


def failures(rows: Rows) -> list[str]:
    """Returns a sentence for each figure beyond the limit. The limits hold on machines of any speed."""
    figures = {key: figure for key, figure, _ in rows}
    broken = []
    if abs(figures["soak_av_offset_ms"]) > _MAX_OFFSET_MS:
        broken.append(f"audio and video are {figures['soak_av_offset_ms']:.1f} ms apart in the stream")
    if figures["soak_ends_apart_ms"] > _MAX_OFFSET_MS:
        broken.append(f"audio and video end {figures['soak_ends_apart_ms']:.1f} ms apart in the recording")
    if figures["soak_rss_growth_mb"] > _MAX_GROWTH_MB:
        broken.append(f"the services hold {figures['soak_rss_growth_mb']:.0f} MiB more than at the start")
    return broken


async def _converse(client: LiveClient, speech: Audio, end: float, measured: _Measurements) -> None:
    pcm, speech_48k, number = to_pcm(speech), np.asarray(soxr.resample(speech, RATE_HZ, 48_000), np.float32), 0
    while time.perf_counter() < end:
        number += 1
        client.discard_old_data()
        if number % _INTERRUPT_EVERY:
            await client.speak(pcm)
            offset_ms = await asyncio.to_thread(_offset_ms, client.data(), speech_48k, client.starts[-1])
            measured.offsets_ms.append(offset_ms)
        else:
            await client.send(pcm)
            await asyncio.sleep(0.5)
            await client.interrupt_ms()


async def _connect_and_vanish(stub: SessionServiceAsyncStub, speech: Audio, end: float) -> None:
    while time.perf_counter() < end:
        client = LiveClient(stub, "s1", keep_data=False)
        await client.open(fragment_ms=100)
        await client.send(to_pcm(speech))
        await asyncio.sleep(1.0)
        await client.drop()
        await asyncio.sleep(1.0)


async def _watch_memory(end: float, measured: _Measurements) -> None:
    begin = reported = time.perf_counter()
    while (now := time.perf_counter()) < end:
        rss_mb = process_usage.rss_mb(encoders=False)
        if now - begin > _WARM_UP_S:
            measured.rss_mb.append(rss_mb)
        if now - reported > _REPORT_S and measured.offsets_ms:
            reported = now
            worst = max(measured.offsets_ms, key=abs)
            print(f"  {(now - begin) / 60:5.1f} min  {rss_mb:7.0f} MiB  A/V {worst:+.1f} ms at worst", file=sys.stderr)
        await asyncio.sleep(1.0)


def _offset_ms(data: bytes, speech: Audio, start_s: float) -> float:
    """Returns how much later the audio of the first frame (48 kHz) starts than the image at `start_s`.

    Only the first frame counts: where infer is late, image and audio are held together, which is no offset.
    """
    with av.open(io.BytesIO(data), "r") as file:
        times = [float(packet.pts * packet.time_base) for packet in file.demux(video=0) if packet.pts is not None]
    shown = min(times, key=lambda time: abs(time - start_s))
    with av.open(io.BytesIO(data), "r") as file:
        blocks = list(file.decode(audio=0))
    begin = blocks[0].time or 0.0
    offset = max(0, round((shown - begin - 0.2) * 48_000))
    audio = np.concatenate([block.to_ndarray()[0] for block in blocks])[offset : offset + 24_000]
    return (seams.lag_s(audio, speech[:_FRAME_SAMPLES]) + begin + offset / 48_000 - shown) * 1000


def _ends_apart_ms(conversation: pb.Conversation) -> float:
    """Returns the distance between the ends of the two tracks of the recording."""
    ends = []
    for kind in ("video", "audio"):
        with av.open(conversation.uri.removeprefix("file://")) as file:
            ends.append(max(_packet_ends(file, kind)))
    return abs(ends[0] - ends[1]) * 1000


def _packet_ends(file: av.container.InputContainer, kind: str) -> Iterator[float]:
    for packet in file.demux(**{kind: 0}):
        if packet.pts is not None and packet.time_base is not None:
            yield float((packet.pts + (packet.duration or 0)) * packet.time_base)


def to_pcm(audio: Audio) -> npt.NDArray[np.int16]:
    """Returns audio in [-1, 1] as 16-bit samples; values beyond are clipped."""
    return (np.clip(audio, -1, 1) * 32767).astype("<i2")
