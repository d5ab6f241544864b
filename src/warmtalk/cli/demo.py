"""warmtalk demo: a photograph speaks two sentences, then a third in the next conversation."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from warmtalk.cli import avatar, clients
from warmtalk.cli.session import ensure_session, speak, to_path
from warmtalk.cli.supervisor import Supervisor, own_place
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.sample_photo import read_sample_photo
from warmtalk.v1 import prep_pb2, session_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_SENTENCES = (
    "Hello! I am a photograph that learned to speak, and all of me runs on your own processor.",
    "My lips move when I talk. They rest when I pause, and between two clips my head does not jump.",
    "This is the next conversation.",
)
_SESSION, _AVATAR = "demo", "eileen"
_OURS = {
    *("logs", "eileen.png", "data", "data/avatars", "data/sessions"),
    *(f"data/avatars/{_AVATAR}", f"data/sessions/{_SESSION}"),
}
"""What a demo leaves in its folder, two levels deep in data."""
_EXAMPLES = """\
examples:
  warmtalk demo                                    the videos come to demo/
  warmtalk demo --photo me.jpg --out me            with your own portrait
"""


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = verbs.add_parser(
        "demo", help="see it work: a photograph speaks (starts and stops its own services)", epilog=_EXAMPLES
    )
    demo.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("demo"), help="folder for the videos (default: %(default)s)"
    )
    demo.add_argument("--photo", type=Path, metavar="FILE", help="another portrait, jpg or png")
    demo.set_defaults(run=_demo)


async def _demo(args: argparse.Namespace, config: Config) -> int:
    out: Path = args.out.resolve()
    if args.photo and not args.photo.is_file():
        raise InvalidInput(f"there is no photo {args.photo}", "Check the path")
    _empty(out)
    photo = args.photo or _portrait(out)
    config, environ = own_place(config, out / "data")
    print("starting the services, a few seconds ...", flush=True)
    begin = time.perf_counter()
    async with Supervisor(config, environ=environ, logs=out / "logs"):
        figures = {"start_s": _seconds(begin)}
        figures |= await _build(config, photo)
        figures |= await _talk(config)
    print("talk to it yourself: warmtalk up, then http://127.0.0.1:8000/\n")
    print(json.dumps(figures))
    return 0


def _empty(out: Path) -> None:
    """Removes what an earlier demo left. Raises InvalidInput rather than remove anything else."""
    found = {path.relative_to(out).as_posix() for depth in ("*", "data/*", "data/*/*") for path in out.glob(depth)}
    other = sorted(name for name in found - _OURS if not name.startswith("data/avatars/."))
    if other or out.is_file():
        what = f"holds {other[0]}, which is not of a demo" if other else "is a file"
        raise InvalidInput(f"{out} {what}", "Give a new or an empty folder: warmtalk demo --out DIR")
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)


def _portrait(out: Path) -> Path:
    """Writes head and shoulders of the sample photo, 720 x 720, to the folder and returns the file."""
    photo = out / "eileen.png"
    head = read_sample_photo()[0:320, 64:384]
    cv2.imwrite(str(photo), cv2.resize(head, (720, 720), interpolation=cv2.INTER_CUBIC))
    return photo


async def _build(config: Config, photo: Path) -> dict[str, float]:
    begin = time.perf_counter()
    params = prep_pb2.AvatarParams(extra_margin=config.prep.extra_margin, still_seconds=config.prep.still_seconds)
    made = await avatar.create(config, _AVATAR, photo, params)
    print(f"avatar of {photo.name}: {made.summary}", flush=True)
    return {"avatar_s": _seconds(begin), "avatar_frames": made.frames}


async def _talk(config: Config) -> dict[str, float]:
    async with clients.session(config) as stub:
        await ensure_session(stub, _SESSION, _AVATAR)
        begin = time.perf_counter()
        first_frames = [await _say(stub, sentence) for sentence in _SENTENCES[:2]]
        spent = _seconds(begin)
        closed = (await stub.Reset(session_pb2.ResetRequest(session_id=_SESSION))).closed
        first_frames.append(await _say(stub, _SENTENCES[2]))
        now = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=_SESSION))).session
    print(f"\nfirst conversation   {to_path(closed.uri)}")
    for clip in closed.clips:
        print(f"  clip {clip.number}             {to_path(clip.uri)}")
    print(f"second conversation  {to_path(now.conversation.uri)}\n")
    length = closed.duration.ToTimedelta().total_seconds()
    return {
        "clips": len(closed.clips),
        "conversation_s": length,
        "conversation_frames": closed.frames,
        "conversation_samples": closed.samples,
        "speak_x_realtime": round(length / spent, 2),
        "first_frame_ms": round(sorted(first_frames)[1]),
    }


async def _say(stub: SessionServiceAsyncStub, sentence: str) -> float:
    """Milliseconds to the first frame."""
    print(f"  “{sentence}”", flush=True)
    events = await speak(stub, session_pb2.SpeakRequest(session_id=_SESSION, text=sentence))
    return float(events["started"].started.delay.ToMicroseconds()) / 1000


def _seconds(begin: float) -> float:
    return round(time.perf_counter() - begin, 2)
