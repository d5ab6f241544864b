"""warmtalk export: a conversation for players that want AAC."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli import clients, formatting
from warmtalk.cli.session import to_path
from warmtalk.config import Config
from warmtalk.core.errors import NotFound
from warmtalk.media import concat
from warmtalk.v1 import session_pb2

_EXAMPLES = """\
examples:
  warmtalk export --session s1 --out talk.mp4                      the running conversation, as it is now
  warmtalk export --session s1 --conversation 1 --out first.mp4    an earlier one
  warmtalk export --session s1 --flac --out talk.mp4               the sound as it was made, nothing coded again
"""


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = verbs.add_parser(
        "export", help="the conversation as an indexed MP4 with AAC; the picture is copied", epilog=_EXAMPLES
    )
    export.add_argument("--session", required=True, metavar="ID")
    export.add_argument(
        "--conversation", type=int, metavar="N", help="an earlier one, from 1 (default: the running one)"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--flac", action="store_true", help="keep the FLAC sound, only make it indexed")
    export.set_defaults(run=_export)


async def _export(args: argparse.Namespace, config: Config) -> int:
    formatting.writable(args.out)
    async with clients.session(config) as stub:
        session = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=args.session))).session
    talk = _chosen(session, args.conversation)
    await asyncio.to_thread(concat.export_conversation, to_path(talk.uri), args.out, indexed=args.flac)
    print(f"{args.out}  ({formatting.clips(talk)})")
    return 0


def _chosen(session: session_pb2.Session, number: int | None) -> session_pb2.Conversation:
    talks = {talk.number: talk for talk in [*session.archived, session.conversation] if talk.clips}
    wanted = session.conversation.number if number is None else number
    if wanted not in talks:
        known = ", ".join(map(str, talks)) or "none"
        raise NotFound(
            f"session {session.session_id!r} has nothing to export in conversation {wanted} (with clips: {known})",
            "Choose one with --conversation, or speak first",
        )
    return talks[wanted]
