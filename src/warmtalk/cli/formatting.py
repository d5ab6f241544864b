"""How the command line tells lengths and counts, and checks where its files go before any work."""

from __future__ import annotations

import os
from pathlib import Path

from warmtalk.core.errors import InvalidInput
from warmtalk.v1 import session_pb2


def clips(talk: session_pb2.Conversation) -> str:
    """ "2 clips, 4.1 s" """
    return clips_of(len(talk.clips), talk.duration.ToTimedelta().total_seconds())


def clips_of(count: int, seconds: float) -> str:
    """ "1 clip, 4.1 s", "12 clips, 3 min 20 s" """
    minutes, rest = divmod(round(seconds), 60)
    length = f"{seconds:.1f} s" if not minutes else f"{minutes} min {rest} s"
    return f"{count} clip{'' if count == 1 else 's'}, {length}"


def writable(path: Path) -> Path:
    """The same path. Raises InvalidInput unless a file can be written there, so that nothing is made in vain."""
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", "Name a file in it")
    if not path.parent.is_dir():
        raise InvalidInput(f"{path} cannot be written: there is no folder {path.parent}", "Make it, or name another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInput(f"{path} cannot be written: no permission", "Name a place that is yours")
    return path
