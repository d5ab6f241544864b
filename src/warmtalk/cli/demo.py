"""warmtalk demo: a photo speaks two sentences in one conversation, then a third sentence in the next."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from warmtalk.cli import avatar, clients
from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.session import ensure_session, speak, to_path
from warmtalk.cli.supervisor import Supervisor
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput
from warmtalk.v1 import prep_pb2, session_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_SENTENCES = (
    "Hello! I am a photograph that learned to speak, and all of me runs on your own processor.",
    "My lips move when I talk. They rest when I pause, and between two clips my head does not jump.",
    "This is the next conversation.",
)
_SESSION, _AVATAR = "demo", "eileen"
_DEMO_FILES = {
    *("logs", "eileen.png", "data", "data/avatars", "data/sessions"),
    *(f"data/avatars/{_AVATAR}", f"data/sessions/{_SESSION}"),
}
"""Files and folders that a demo writes, at most three levels deep, relative to the output folder."""
_EXAMPLES = """\
examples:
  warmtalk demo                                    write the videos to demo/
  warmtalk demo --photo me.jpg --out me            use your own portrait
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `demo`."""
    demo = commands.add_parser(
        "demo", help="try warmtalk: a photo speaks (starts and stops separate services)", epilog=_EXAMPLES
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
    _clear_output(out)
    photo = args.photo or _portrait(out)
    config, environ = isolated_config(config, out / "data")
    print("starting the services, a few seconds ...", flush=True)
    start = time.perf_counter()
    async with Supervisor(config, environ=environ, logs=out / "logs"):
        figures = {"start_s": _seconds_since(start)}
        figures |= await _build_avatar(config, photo)
        figures |= await _speak_conversations(config)
    print("To talk with the avatar, run: warmtalk up, then open http://127.0.0.1:8000/\n")
    print(json.dumps(figures))
    return 0


def _clear_output(out: Path) -> None:
    """Deletes the files of an earlier demo. Raises InvalidInput, and deletes nothing, when other files exist."""
    names = {path.relative_to(out).as_posix() for depth in ("*", "data/*", "data/*/*") for path in out.glob(depth)}
    other = sorted(name for name in names - _DEMO_FILES if not name.startswith("data/avatars/."))
    if other or out.is_file():
        reason = f"contains {other[0]}, which no demo has written" if other else "is a file"
        raise InvalidInput(f"{out} {reason}", "Name a new or an empty folder: warmtalk demo --out DIR")
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)


def _portrait(out: Path) -> Path:
    """Writes head and shoulders of the sample photo, 720 x 720, to the folder and returns the file."""
    import cv2

    from warmtalk.sample_photo import read_sample_photo

    photo = out / "eileen.png"
    head = read_sample_photo()[0:320, 64:384]
    cv2.imwrite(str(photo), cv2.resize(head, (720, 720), interpolation=cv2.INTER_CUBIC))
    return photo


async def _build_avatar(config: Config, photo: Path) -> dict[str, float]:
    start = time.perf_counter()
    params = prep_pb2.AvatarParams(extra_margin=config.prep.extra_margin, still_seconds=config.prep.still_seconds)
    built = await avatar.create(config, _AVATAR, photo, params)
    print(f"avatar of {photo.name}: {built.summary}", flush=True)
    return {"avatar_s": _seconds_since(start), "avatar_frames": built.frames}


async def _speak_conversations(config: Config) -> dict[str, float]:
    async with clients.session_client(config) as stub:
        await ensure_session(stub, _SESSION, _AVATAR)
        start = time.perf_counter()
        first_frames_ms = [await _speak_sentence(stub, sentence) for sentence in _SENTENCES[:2]]
        elapsed_s = _seconds_since(start)
        closed = (await stub.Reset(session_pb2.ResetRequest(session_id=_SESSION))).closed
        first_frames_ms.append(await _speak_sentence(stub, _SENTENCES[2]))
        session = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=_SESSION))).session
    print(f"\nfirst conversation   {to_path(closed.uri)}")
    for clip in closed.clips:
        print(f"  clip {clip.number}             {to_path(clip.uri)}")
    print(f"second conversation  {to_path(session.conversation.uri)}\n")
    duration_s = closed.duration.ToTimedelta().total_seconds()
    return {
        "clips": len(closed.clips),
        "conversation_s": duration_s,
        "conversation_frames": closed.frames,
        "conversation_samples": closed.samples,
        "speak_x_realtime": round(duration_s / elapsed_s, 2),
        "first_frame_ms": round(sorted(first_frames_ms)[1]),
    }


async def _speak_sentence(stub: SessionServiceAsyncStub, sentence: str) -> float:
    """Returns the milliseconds until the first frame."""
    print(f"  “{sentence}”", flush=True)
    events = await speak(stub, session_pb2.SpeakRequest(session_id=_SESSION, text=sentence))
    return float(events["started"].started.delay.ToMicroseconds()) / 1000


def _seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 2)
