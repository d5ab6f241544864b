"""warmtalk export: writes a conversation for players that need AAC."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli import clients, formatting
from warmtalk.cli.session import to_path
from warmtalk.config import Config
from warmtalk.core.errors import NotFound
from warmtalk.v1 import session_pb2

_EXAMPLES = """\
examples:
  warmtalk export --session s1 --out talk.mp4                      the current conversation
  warmtalk export --session s1 --conversation 1 --out first.mp4    an earlier conversation
  warmtalk export --session s1 --flac --out talk.mp4               the original FLAC audio, nothing is re-encoded
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `export`."""
    export = commands.add_parser(
        "export", help="write the conversation as an indexed MP4 with AAC; the video is copied", epilog=_EXAMPLES
    )
    export.add_argument("--session", required=True, metavar="ID")
    export.add_argument(
        "--conversation", type=int, metavar="N", help="number of a conversation, from 1 (default: the current one)"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--flac", action="store_true", help="keep the FLAC audio and only add the index")
    export.set_defaults(run=_export)


async def _export(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.media import concat  # imports PyAV

    formatting.check_writable(args.out)
    async with clients.session_client(config) as stub:
        session = (await stub.GetSession(session_pb2.GetSessionRequest(session_id=args.session))).session
    conversation = _select(session, args.conversation)
    await asyncio.to_thread(concat.export_conversation, to_path(conversation.uri), args.out, indexed=args.flac)
    print(f"{args.out}  ({formatting.conversation_length(conversation)})")
    return 0


def _select(session: session_pb2.Session, number: int | None) -> session_pb2.Conversation:
    """Returns conversation `number` (None: the current one). Raises NotFound when the conversation has no clips."""
    conversations = {one.number: one for one in [*session.archived, session.conversation] if one.clips}
    selected = session.conversation.number if number is None else number
    if selected not in conversations:
        available = ", ".join(map(str, conversations)) or "none"
        raise NotFound(
            f"conversation {selected} of session {session.session_id!r} has no clips to export"
            f" (conversations with clips: {available})",
            "Choose a conversation with --conversation, or speak first",
        )
    return conversations[selected]
