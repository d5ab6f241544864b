"""python -m benchmarks.live: measures live conversations at 720p with real services on loopback, as clients see them.

    python -m benchmarks.live [--sessions 4] [--seconds 20] [--minutes 0] [--keep FOLDER]

Audio is sent as a speech program sends audio: in chunks of 100 ms, at three times real time. All sessions speak at the
same time and without a pause, which is a higher load than conversations cause. `--minutes` adds a soak of that length;
the program exits with 1 when audio and video drift apart in the soak or memory grows.
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
from benchmarks.live_client import RATE_HZ, LiveClient
from benchmarks.soak import to_pcm
from warmtalk.cli import avatar, clients
from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.session import ensure_session
from warmtalk.cli.supervisor import Supervisor
from warmtalk.config_loader import load
from warmtalk.v1 import prep_pb2
from warmtalk.voices.piper import PiperVoice

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_SENTENCES = ("Good morning, how are you today?", "I have been thinking about the sea and the mountains.")
_PAUSE_S = 0.8
_SPEECH_LEVEL = 0.02
"""Absolute sample value above which a sentence counts as started."""
_CLOSING_S, _OPENING_S = 0.35, 0.1
"""Start and end of a pause that are not counted as silence: the mouth closes and opens there."""
_INTERRUPTS = 5

Audio = npt.NDArray[np.float32]
Rows = list[tuple[str, float, str]]


async def measure(sessions: int, seconds: float, minutes: float, keep: Path | None) -> Rows:
    """Returns the figures of one stream, of `sessions` streams at once, of the soak and of the joins."""
    with tempfile.TemporaryDirectory() as folder:
        config, environ = isolated_config(load(), Path(folder) / "data")
        config = replace(config, preparation=False)
        async with Supervisor(config, environ=environ, logs=Path(folder)):
            await avatar.create(config, "bench", inputs.write_photo(Path(folder)), prep_pb2.AvatarParams())
            speech, spans = await _synthesize()
            async with clients.session_client(config) as stub:
                for number in range(max(2, sessions)):
                    await ensure_session(stub, f"s{number}", "bench")
                rows = await _measure_one(stub, speech, spans, keep)
                rows += await _measure_many(stub, sessions, seconds, speech)
                if minutes:
                    rows += await soak.measure(stub, minutes * 60, speech)
        return rows + joins.measure()


async def _synthesize() -> tuple[Audio, list[tuple[float, float, bool]]]:
    """Returns two sentences at 16 kHz, each followed by a pause, and the spans of (begin, end, voiced) in seconds."""
    voice = PiperVoice()
    parts: list[Audio] = []
    for sentence in _SENTENCES:
        async for chunk in voice.synthesize(sentence):
            audio = np.asarray(soxr.resample(chunk.samples, chunk.rate_hz, RATE_HZ), np.float32)
            loud = np.flatnonzero(np.abs(audio) > _SPEECH_LEVEL)
            parts += [audio[loud[0] : loud[-1]], np.zeros(int(_PAUSE_S * RATE_HZ), np.float32)]
    await voice.close()
    spans, offset_s = [], 0.0
    for number, part in enumerate(parts):
        end_s, pause = offset_s + len(part) / RATE_HZ, number % 2 == 1
        spans.append((offset_s + _CLOSING_S * pause, end_s - _OPENING_S * pause, not pause))
        offset_s = end_s
    return np.concatenate(parts), spans


async def _measure_one(
    stub: SessionServiceAsyncStub, speech: Audio, spans: list[tuple[float, float, bool]], keep: Path | None
) -> Rows:
    client = LiveClient(stub, "s0")
    await client.open()
    for _ in range(3):
        await asyncio.sleep(1.0)
        await client.speak(to_pcm(speech))
    await asyncio.sleep(1.0)
    await client.close()
    if keep is not None:
        await asyncio.to_thread((keep / "live.mp4").write_bytes, client.data())
    decoded = seams.decode_stream(client.data())
    start = client.starts[-1]
    stream_spans = [(begin + start, end + start, voiced) for begin, end, voiced in spans]
    speech_48k = np.asarray(soxr.resample(speech, RATE_HZ, 48_000), np.float32)
    first = statistics.median(client.first_fragment_ms)
    closing_ms = [await _interrupt_ms(stub, speech, 0.5 + 0.3 * number) for number in range(_INTERRUPTS)]
    return [
        ("first_fragment_ms", first, "ms from the first audio to the first fragment of speech (target 250)"),
        ("av_offset_ms", seams.offset_ms(decoded, speech_48k, start), "ms of audio behind the video (target 20)"),
        (
            "interrupt_ms",
            max(closing_ms),
            "ms from the call to the closed mouth on a player's screen, worst (target 250)",
        ),
        ("seam_ratio", seams.seam_ratio(decoded, _edges(client)), "change at transitions over the largest (target 1)"),
        (
            "silence_ratio",
            seams.silence_ratio(decoded, stream_spans),
            "mouth opening in silence over in speech (target 0.1)",
        ),
    ]


async def _interrupt_ms(stub: SessionServiceAsyncStub, speech: Audio, after_s: float) -> float:
    client = LiveClient(stub, "s0", keep_data=False)
    await client.open()
    await asyncio.sleep(0.3)
    await client.send(to_pcm(speech))
    await asyncio.sleep(after_s)
    closing_ms = await client.interrupt_ms()
    await client.close()
    return closing_ms


async def _measure_many(stub: SessionServiceAsyncStub, sessions: int, seconds: float, speech: Audio) -> Rows:
    clients = [LiveClient(stub, f"s{number}", keep_data=False) for number in range(sessions)]
    for client in clients:
        await client.open()
    await asyncio.sleep(1.0)
    cpu, begin = process_usage.cpu_s(), time.perf_counter()
    await asyncio.gather(*(_speak_for(client, to_pcm(speech), seconds) for client in clients))
    cores = (process_usage.cpu_s() - cpu) / (time.perf_counter() - begin)
    memory = process_usage.rss_mb()
    for client in clients:
        await client.close()
    gaps = [gap for client in clients for gap in client.gaps_ms()]
    lowest_fps = min([25, *(rate for client in clients for rate in client.rates)])
    p50, p99 = np.percentile(gaps, (50, 99))
    first = [one for client in clients for one in client.first_fragment_ms]
    return [
        ("gap_ms_p50", float(p50), f"ms between two frames, {sessions} sessions that all speak"),
        ("gap_ms_p99", float(p99), "ms between two frames (target 80)"),
        ("crowd_first_fragment_ms", statistics.median(first), "ms to the first fragment while all speak"),
        ("crowd_fps", float(lowest_fps), "lowest frames per second of a session (target 25)"),
        ("cpu_cores", cores, "cores used by all services"),
        ("rss_mb", memory, "MiB held by all services"),
    ]


async def _speak_for(client: LiveClient, pcm: npt.NDArray[np.int16], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await client.speak(pcm)


def _edges(client: LiveClient) -> list[float]:
    """Returns the stream positions in seconds at which speech begins and ends."""
    edges, speaking = [], False
    for one in client.fragments:
        if one.fragment.speech != speaking:
            edges.append(one.fragment.start.ToTimedelta().total_seconds())
            speaking = one.fragment.speech
    return edges


def main() -> None:
    """Runs the benchmark and shows the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=4, help="number of sessions that speak at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for which all sessions speak")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the soak")
    parser.add_argument("--keep", type=Path, help="existing folder for the received video")
    args = parser.parse_args()
    rows = asyncio.run(measure(args.sessions, args.seconds, args.minutes, args.keep))
    card.print_card("live conversations", rows)
    if args.minutes and (failures := soak.failures(rows)):
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main()
