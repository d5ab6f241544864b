"""python -m benchmarks.live: live conversations with real services on loopback, as their clients see them, at 720p.

    python -m benchmarks.live [--sessions 4] [--seconds 20] [--minutes 0] [--keep FOLDER]

Sound comes as a speech program makes it, in pieces of 100 ms, three times as fast as it is said. All sessions speak at
the same time and without a pause, which no conversation does. `--minutes` adds a soak of that
length, and exits with 1 when sound and picture come apart in it or memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import soxr

from benchmarks import card, inputs, joins, process_usage, seams, soak
from benchmarks.live_client import RATE_HZ, Client
from benchmarks.soak import to_pcm
from warmtalk.cli import avatar, clients
from warmtalk.cli.session import ensure_session
from warmtalk.cli.supervisor import Supervisor, own_place
from warmtalk.config_loader import load
from warmtalk.v1 import prep_pb2
from warmtalk.voices.piper import PiperVoice

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_SENTENCES = ("Good morning, how are you today?", "I have been thinking about the sea and the mountains.")
_PAUSE_S = 0.8
_INTERRUPTS = 5

Sound = npt.NDArray[np.float32]
Rows = list[tuple[str, float, str]]


async def measure(sessions: int, seconds: float, minutes: float, keep: Path | None) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        config, environ = own_place(load(), Path(folder) / "data")
        config = replace(config, preparation=False)
        async with Supervisor(config, environ=environ, logs=Path(folder)):
            await avatar.create(config, "bench", inputs.photo(Path(folder)), prep_pb2.AvatarParams())
            said, spans = await _speech()
            async with clients.session(config) as stub:
                for number in range(max(2, sessions)):
                    await ensure_session(stub, f"s{number}", "bench")
                rows = await _alone(stub, said, spans, keep)
                rows += await _crowd(stub, sessions, seconds, said)
                if minutes:
                    rows += await soak.measure(stub, minutes * 60, said)
        return rows + joins.measure()


async def _speech() -> tuple[Sound, list[tuple[float, float, bool]]]:
    """Two sentences at 16 kHz with a pause between them, and where voice and silence lie."""
    voice = PiperVoice()
    parts: list[Sound] = []
    for sentence in _SENTENCES:
        async for piece in voice.synthesize(sentence):
            sound = np.asarray(soxr.resample(piece.samples, piece.rate_hz, RATE_HZ), np.float32)
            loud = np.flatnonzero(np.abs(sound) > 0.02)
            parts += [sound[loud[0] : loud[-1]], np.zeros(int(_PAUSE_S * RATE_HZ), np.float32)]
    await voice.close()
    spans, place = [], 0.0
    for number, part in enumerate(parts):
        length = len(part) / RATE_HZ
        spans.append(
            (place + (0.35 if number % 2 else 0.0), place + length - (0.1 if number % 2 else 0), number % 2 == 0)
        )
        place += length
    return np.concatenate(parts), spans


async def _alone(
    stub: SessionServiceAsyncStub, said: Sound, spans: list[tuple[float, float, bool]], keep: Path | None
) -> Rows:
    client = Client(stub, "s0")
    await client.open()
    for _ in range(3):
        await asyncio.sleep(1.0)
        await client.talk(to_pcm(said))
    await asyncio.sleep(1.0)
    await client.close()
    if keep is not None:
        await asyncio.to_thread((keep / "live.mp4").write_bytes, client.data())
    watched = seams.watch(client.data())
    start = client.starts[-1]
    moved = [(begin + start, end + start, voiced) for begin, end, voiced in spans]
    wide = np.asarray(soxr.resample(said, RATE_HZ, 48_000), np.float32)
    first = statistics.median(client.first_fragment_ms)
    cuts = [await _interrupt_ms(stub, said, 0.5 + 0.3 * number) for number in range(_INTERRUPTS)]
    return [
        ("first_fragment_ms", first, "ms from the first sound to the first fragment of speech (target 250)"),
        ("av_offset_ms", seams.offset_ms(watched, wide, start), "ms that sound is behind the picture (target 20)"),
        ("interrupt_ms", max(cuts), "ms from the call to the closed mouth on a player's screen, worst (target 250)"),
        ("seam_ratio", seams.seam_ratio(watched, _edges(client)), "change at transitions over the largest (target 1)"),
        ("silence_ratio", seams.silence_ratio(watched, moved), "mouth opening in silence over in speech (target 0.1)"),
    ]


async def _interrupt_ms(stub: SessionServiceAsyncStub, said: Sound, after_s: float) -> float:
    client = Client(stub, "s0", keep_data=False)
    await client.open()
    await asyncio.sleep(0.3)
    await client.send(to_pcm(said))
    await asyncio.sleep(after_s)
    took = await client.interrupt_ms()
    await client.close()
    return took


async def _crowd(stub: SessionServiceAsyncStub, sessions: int, seconds: float, said: Sound) -> Rows:
    clients = [Client(stub, f"s{number}", keep_data=False) for number in range(sessions)]
    for client in clients:
        await client.open()
    await asyncio.sleep(1.0)
    cpu, begin = process_usage.cpu_s(), time.perf_counter()
    await asyncio.gather(*(_talk_for(client, to_pcm(said), seconds) for client in clients))
    cores = (process_usage.cpu_s() - cpu) / (time.perf_counter() - begin)
    memory = process_usage.rss_mb()
    for client in clients:
        await client.close()
    gaps = [gap for client in clients for gap in client.gaps_ms()]
    low = min([25, *(rate for client in clients for rate in client.rates)])
    p50, p99 = np.percentile(gaps, (50, 99))
    first = [one for client in clients for one in client.first_fragment_ms]
    return [
        ("gap_ms_p50", float(p50), f"ms between two frames, {sessions} sessions that all speak"),
        ("gap_ms_p99", float(p99), "ms between two frames (target 80)"),
        ("crowd_first_fragment_ms", statistics.median(first), "ms to the first fragment while all speak"),
        ("crowd_fps", float(low), "lowest frames per second of a session (target 25)"),
        ("cpu_cores", cores, "cores used by all services"),
        ("rss_mb", memory, "MiB held by all services"),
    ]


async def _talk_for(client: Client, sound: npt.NDArray[np.int16], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await client.talk(sound)


def _edges(client: Client) -> list[float]:
    """Seconds at which speech begins and ends."""
    found, last = [], False
    for one in client.fragments:
        if one.fragment.speech != last:
            found.append(one.fragment.start.ToTimedelta().total_seconds())
            last = one.fragment.speech
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long all sessions speak")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the soak")
    parser.add_argument("--keep", type=Path, help="folder (it must be there) that gets the received video")
    args = parser.parse_args()
    rows = asyncio.run(measure(args.sessions, args.seconds, args.minutes, args.keep))
    card.show("live conversations", rows)
    if args.minutes and (wrong := soak.misses(rows)):
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
