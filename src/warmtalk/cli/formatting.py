"""Text for durations and counts, and the check of an output path before the work starts."""

from __future__ import annotations

import os
from pathlib import Path

from warmtalk.core.errors import InvalidInput
from warmtalk.v1 import session_pb2


def conversation_length(conversation: session_pb2.Conversation) -> str:
    """Returns text such as "2 clips, 4.1 s"."""
    return clips_length(len(conversation.clips), conversation.duration.ToTimedelta().total_seconds())


def clips_length(count: int, seconds: float) -> str:
    """Returns text such as "1 clip, 4.1 s" or "12 clips, 3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    length = f"{seconds:.1f} s" if not minutes else f"{minutes} min {rest} s"
    return f"{count} clip{'' if count == 1 else 's'}, {length}"


def check_writable(path: Path) -> None:
    """Raises InvalidInput when no file can be written at `path`, so that long work does not fail at the end."""
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder", "Add a file name")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"{path} cannot be written: there is no folder {path.parent}", "Create the folder, or name another one"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInput(f"{path} cannot be written: permission denied", "Name a folder with write permission")
