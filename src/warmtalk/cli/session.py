"""warmtalk speak | reset | sessions: a conversation clip by clip."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from tqdm import tqdm

from warmtalk.cli import clients, formatting
from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput, NotFound, WarmtalkError
from warmtalk.v1 import session_pb2

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

_MAX_AUDIO_BYTES = 30 << 20
_SPEAK = """\
examples:
  warmtalk speak --session s1 --avatar anna --text "Hello. How are you?"   the first clip of a new session
  warmtalk speak --session s1 --audio answer.mp3 --out answer.mp4          the next clip, and a copy of the clip
  echo "Good morning." | warmtalk speak --session s1 --text -
"""
_RESET = """\
examples:
  warmtalk reset --session s1            keep the conversation on disk and start the next one
  warmtalk reset --session s1 --delete   delete the conversation and start the next one
"""
_SESSIONS = """\
examples:
  warmtalk sessions                list all sessions
  warmtalk sessions s1             show conversations and clips with their texts
  warmtalk sessions s1 --delete    delete the session with all videos
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands `speak`, `reset` and `sessions`."""
    speak = commands.add_parser(
        "speak", help="speak a text or an audio file; the clip is appended to the conversation", epilog=_SPEAK
    )
    speak.add_argument("--session", required=True, metavar="ID", help="created when new")
    speak.add_argument("--avatar", default="", metavar="ID", help="for a new session (default: the configured avatar)")
    source = speak.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="text to speak; '-' reads standard input")
    source.add_argument("--audio", type=Path, metavar="FILE", help="wav, mp3, flac or ogg")
    speak.add_argument("--out", type=Path, metavar="FILE", help="copy of the clip")
    speak.set_defaults(run=_speak)
    reset = commands.add_parser("reset", help="close the conversation and start the next", epilog=_RESET)
    reset.add_argument("--session", required=True, metavar="ID")
    reset.add_argument("--delete", action="store_true", help="delete the conversation instead of keeping it")
    reset.set_defaults(run=_reset)
    sessions = commands.add_parser(
        "sessions", help="list all sessions, show one session with clips, or delete one", epilog=_SESSIONS
    )
    sessions.add_argument("id", nargs="?", default="", help="session to show (default: list all)")
    sessions.add_argument("--delete", action="store_true", help="delete the session and all videos")
    sessions.set_defaults(run=_sessions)


async def _speak(args: argparse.Namespace, config: Config) -> int:
    request = session_pb2.SpeakRequest(session_id=args.session)
    if args.out:
        formatting.check_writable(args.out)
    if args.audio:
        request.audio = _read_audio(args.audio)
    else:
        request.text = Path("/dev/stdin").read_text("utf-8") if args.text == "-" else args.text
    async with clients.session_client(config) as stub:
        await ensure_session(stub, args.session, args.avatar)
        events = await speak(stub, request)
    clip = events["clip_ready"].clip_ready.clip
    updated = events["conversation_updated"].conversation_updated
    length = formatting.clips_length(updated.clip_count, updated.duration.ToTimedelta().total_seconds())
    print(f"clip          {to_path(clip.uri)}")
    print(f"conversation  {to_path(updated.uri)}  ({length})")
    if args.out:
        shutil.copyfile(to_path(clip.uri), args.out)
        print(f"copy          {args.out}")
    return 0


async def ensure_session(stub: SessionServiceAsyncStub, session_id: str, avatar_id: str) -> None:
    """Creates the session unless the session exists. Raises InvalidInput when an existing one has another avatar."""
    try:
        with clients.translated_errors("session"):
            existing = await stub.GetSession(session_pb2.GetSessionRequest(session_id=session_id))
        if avatar_id and existing.session.avatar_id != avatar_id:
            raise InvalidInput(
                f"session {session_id!r} uses avatar {existing.session.avatar_id!r}, not {avatar_id!r}",
                f"Use another --session, or: warmtalk sessions {session_id} --delete",
            )
    except NotFound:
        await stub.CreateSession(session_pb2.CreateSessionRequest(session_id=session_id, avatar_id=avatar_id))


async def speak(
    stub: SessionServiceAsyncStub, request: session_pb2.SpeakRequest
) -> dict[str, session_pb2.SpeakResponse]:
    """Speaks one clip with a progress bar on stderr. Returns the last event of each kind, by the name of the kind."""
    events: dict[str, session_pb2.SpeakResponse] = {}
    with tqdm(unit="frame", desc="waiting", leave=False, disable=None) as bar:
        async for event in stub.Speak(request):
            kind = event.WhichOneof("event") or ""
            events[kind] = event
            if kind == "progress":
                bar.set_description("speaking", refresh=False)
                bar.total = event.progress.frames_known
                bar.update(max(0, event.progress.frames_done - bar.n))
    if "finished" not in events:
        raise WarmtalkError(
            "the session service ended the stream without a result", "Read the log of the session service"
        )
    return events


async def _reset(args: argparse.Namespace, config: Config) -> int:
    async with clients.session_client(config) as stub:
        response = await stub.Reset(session_pb2.ResetRequest(session_id=args.session, delete_conversation=args.delete))
    if response.HasField("closed"):
        print(f"closed  {to_path(response.closed.uri)}  ({formatting.conversation_length(response.closed)})")
    print(f"session {args.session} starts conversation {response.session.conversation.number}")
    return 0


async def _sessions(args: argparse.Namespace, config: Config) -> int:
    if args.delete and not args.id:
        raise InvalidInput("--delete needs the ID of a session", "Run: warmtalk sessions ID --delete")
    async with clients.session_client(config) as stub:
        if args.delete:
            await stub.DeleteSession(session_pb2.DeleteSessionRequest(session_id=args.id))
            print(f"session {args.id} was deleted")
        elif args.id:
            response = await stub.GetSession(session_pb2.GetSessionRequest(session_id=args.id))
            _print_session(response.session)
        else:
            await _list(stub)
    return 0


async def _list(stub: SessionServiceAsyncStub) -> None:
    request = session_pb2.ListSessionsRequest()
    count = 0
    while True:
        page = await stub.ListSessions(request)
        for session in page.sessions:
            length = formatting.conversation_length(session.conversation)
            state = session_pb2.Session.State.Name(session.state).removeprefix("STATE_").lower()
            print(f"{session.session_id:24} {session.avatar_id:16} {state:9} {length}")
        count += len(page.sessions)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if not count:
        print("no sessions yet. Create one: warmtalk speak --session ID --avatar ID --text TEXT")


def _print_session(session: session_pb2.Session) -> None:
    print(f"{session.session_id}, avatar {session.avatar_id}")
    for conversation in [*session.archived, session.conversation]:
        print(f"conversation {conversation.number}: {to_path(conversation.uri) if conversation.uri else 'empty'}")
        for clip in conversation.clips:
            print(f"  {clip.number:3}  {clip.frames:6} frames  {clip.text or '(audio)'}")
        for lost in conversation.lost:
            print(f"  lost: {lost.text or '(audio)'} ({lost.reason})")


def to_path(uri: str) -> Path:
    """Returns the path of a file:// URI of the sessions volume."""
    return Path(unquote(urlparse(uri).path))


def _read_audio(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_AUDIO_BYTES:
            raise InvalidInput(
                f"{path} has {path.stat().st_size >> 20} MiB; the limit is {_MAX_AUDIO_BYTES >> 20} MiB",
                f"Reduce the size: ffmpeg -i {path} -ac 1 smaller.flac",
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})", "Check the path") from error
