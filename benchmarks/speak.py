"""python -m benchmarks.speak: measures Speak at 720p with real services on loopback, as a client sees the calls.

Figures: the time to the first frame, the speed of a whole Speak, and the distance between video and audio at the end of
a conversation of 20 clips.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from benchmarks import card, inputs
from warmtalk.cli import avatar, clients
from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.session import ensure_session, speak, to_path
from warmtalk.cli.supervisor import Supervisor
from warmtalk.config_loader import load
from warmtalk.v1 import prep_pb2, session_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_RUNS = 5
_CLIPS = 20
_TEXT = "Good morning, how are you today?"


def measure() -> list[tuple[str, float, str]]:
    """Returns the figures of one avatar and one session."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[tuple[str, float, str]]:
    photo = inputs.write_photo(folder)
    config, environ = isolated_config(load(), folder / "data")
    async with Supervisor(config, environ=environ, logs=folder):
        await avatar.create(config, "bench", photo, prep_pb2.AvatarParams())
        async with clients.session_client(config) as stub:
            await ensure_session(stub, "bench", "bench")
            for _ in range(3):  # warms up: rows of the avatar, the voice, the file cache of the encoder
                await _first_frame_ms(stub, session_pb2.SpeakRequest(text=_TEXT))
            text = [await _first_frame_ms(stub, session_pb2.SpeakRequest(text=_TEXT)) for _ in range(_RUNS)]
            short = session_pb2.SpeakRequest(audio=inputs.synthetic_speech(2.0))
            audio = [await _first_frame_ms(stub, short) for _ in range(_RUNS)]
            speed = [await _x_realtime(stub, 10.0) for _ in range(_RUNS)]
            drift, bad = await _measure_joins(stub)
    return [
        ("speak_x_realtime", statistics.median(speed), "times real time, 10 s of audio at 720p (target 4)"),
        ("first_batch_ms_audio", statistics.median(audio), "ms from Speak with audio to the first frame (target 150)"),
        ("first_batch_ms_text", statistics.median(text), "ms from Speak with text to the first frame (target 700)"),
        ("join_drift_samples", drift, f"samples between the ends of video and audio after {_CLIPS} clips (target 1)"),
        (
            "join_bad_timestamps",
            bad,
            f"frames of {_CLIPS} joined clips not one frame after the frame before (target 0)",
        ),
    ]


async def _first_frame_ms(stub: SessionServiceAsyncStub, request: session_pb2.SpeakRequest) -> float:
    request.session_id = "bench"
    start = time.perf_counter()
    first_s = 0.0
    async for event in stub.Speak(request):
        if event.WhichOneof("event") == "started":
            first_s = time.perf_counter() - start
    return first_s * 1000


async def _x_realtime(stub: SessionServiceAsyncStub, seconds: float) -> float:
    request = session_pb2.SpeakRequest(session_id="bench", audio=inputs.synthetic_speech(seconds))
    start = time.perf_counter()
    await speak(stub, request)
    return seconds / (time.perf_counter() - start)


async def _measure_joins(stub: SessionServiceAsyncStub) -> tuple[float, float]:
    """Returns (samples between the ends of video and audio, frames not exactly one frame after the frame before)."""
    await stub.Reset(session_pb2.ResetRequest(session_id="bench"))
    for number in range(_CLIPS):
        await speak(
            stub, session_pb2.SpeakRequest(session_id="bench", audio=inputs.synthetic_speech(0.3 + 0.037 * number))
        )
    answer = await stub.GetSession(session_pb2.GetSessionRequest(session_id="bench"))
    with av.open(str(to_path(answer.session.conversation.uri))) as file:
        rate = Fraction(answer.session.frame_rate.numerator, answer.session.frame_rate.denominator or 1)
        times = [packet.pts * packet.time_base for packet in file.demux(video=0) if packet.pts is not None]
    with av.open(str(to_path(answer.session.conversation.uri))) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    bad = sum(later - earlier != 1 / rate for earlier, later in itertools.pairwise(times))
    return float(abs(samples - len(times) * 48_000 / rate)), float(bad)


if __name__ == "__main__":
    card.print_card("speak", measure())
