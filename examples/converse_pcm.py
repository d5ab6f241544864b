"""Stream a WAV file to a live conversation at the pace of speech and save the live video.

    warmtalk up                                              # in another terminal
    python examples/converse_pcm.py speech.wav live.mp4 --session s1 --avatar anna

The loop below is the loop of a voice agent: 20 ms chunks of 16-bit PCM go in, fMP4 fragments and events come out.
`--interrupt-after 1.5` stops the avatar in mid-sentence; the recorded clip then ends at the same position.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from warmtalk.v1 import session_pb2 as pb
from warmtalk.v1.session_pb2_grpc import SessionServiceStub

CHUNK_S = 0.02


async def requests(args: argparse.Namespace, finished: asyncio.Event) -> AsyncIterator[pb.ConverseRequest]:
    """Yields the config, then the audio in real time, then `end` or `interrupt`; returns when all was played."""
    with wave.open(str(args.audio)) as audio:
        if audio.getsampwidth() != 2:
            raise SystemExit(f"{args.audio} is not a 16-bit WAV file")
        rate_hz, channels = audio.getframerate(), audio.getnchannels()
        yield pb.ConverseRequest(
            config=pb.ConverseConfig(session_id=args.session, sample_rate_hz=rate_hz, channels=channels)
        )
        start = time.monotonic()
        sent_s = 0.0
        while chunk := audio.readframes(round(rate_hz * CHUNK_S)):
            if args.interrupt_after is not None and sent_s >= args.interrupt_after:
                yield pb.ConverseRequest(interrupt=pb.InterruptNow())
                break
            await asyncio.sleep(max(0.0, start + sent_s - time.monotonic()))
            yield pb.ConverseRequest(pcm_s16le=chunk)
            sent_s += CHUNK_S
        else:
            yield pb.ConverseRequest(end=pb.EndOfUtterance())
    await finished.wait()


async def converse(args: argparse.Namespace) -> None:
    """Runs one utterance and writes the fragments to `args.video` as they arrive."""
    metadata = [("x-internal-api-key", key)] if (key := os.environ.get("WARMTALK_API_KEY")) else []
    finished = asyncio.Event()
    async with grpc.aio.insecure_channel(args.address) as channel:
        stub = SessionServiceStub(channel)
        if args.avatar:
            request = pb.CreateSessionRequest(session_id=args.session, avatar_id=args.avatar)
            await stub.CreateSession(request, metadata=metadata)
        call = stub.Converse(requests(args, finished), metadata=metadata)
        with open(args.video, "wb") as video:
            async for response in call:
                event = response.event
                kind = event.WhichOneof("event")
                if kind == "fragment":
                    video.write(event.fragment.data)
                elif kind == "started":
                    print(f"speech starts {event.started.delay.ToMilliseconds()} ms after the first chunk")
                elif kind == "interrupted":
                    print(f"interrupted after {event.interrupted.played.ToMilliseconds()} ms of speech")
                elif kind == "clip_ready":
                    print(f"clip  {event.clip_ready.clip.uri}")
                elif kind == "finished":
                    finished.set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, help="16-bit WAV file")
    parser.add_argument("video", type=Path, help="MP4 file to write")
    parser.add_argument("--session", default="s1", help="session id (default: %(default)s)")
    parser.add_argument("--avatar", default="", help="avatar id; needed for a new session")
    parser.add_argument("--interrupt-after", type=float, metavar="SECONDS", help="interrupt after so much audio")
    parser.add_argument("--address", default="127.0.0.1:50053", help="session service (default: %(default)s)")
    try:
        asyncio.run(converse(parser.parse_args()))
    except grpc.aio.AioRpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
