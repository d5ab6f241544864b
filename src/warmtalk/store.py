"""Paths on the shared volumes. This module alone turns an id into a path."""

from __future__ import annotations

import re
from pathlib import Path

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import InvalidInput, NotFound, NotReady

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def checked_id(value: str, field: str) -> str:
    """Returns `value`. Raises InvalidInput unless `value` is 1 to 63 of a-z, 0-9, _ and -, not starting with _ or -."""
    if not _ID.fullmatch(value):
        raise InvalidInput(
            f"{field} is {repr(value[:80]) if value else 'missing'}",
            "Use 1 to 63 of a-z, 0-9, '_' and '-', starting with a letter or digit",
            field=field,
        )
    return value


class AvatarStore:
    """Avatars folder: `<id>/` holds a finished bundle, `.building/<id>/` a running or failed build."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.building = root / ".building"

    def path(self, avatar_id: str) -> Path:
        """Returns the folder of a finished avatar, existing or not. Raises InvalidInput."""
        return self.root / checked_id(avatar_id, "avatar_id")

    def building_path(self, avatar_id: str) -> Path:
        """Returns the folder of a build, existing or not. Raises InvalidInput."""
        return self.building / checked_id(avatar_id, "avatar_id")

    def ids(self) -> list[str]:
        """Returns the ids of finished avatars, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _ID.fullmatch(p.name) and (p / "avatar.json").is_file())

    def find(self, avatar_id: str) -> Path:
        """Returns the folder of a finished avatar. Raises InvalidInput, NotFound, or NotReady during its build."""
        path = self.path(avatar_id)
        if path.is_dir():
            return path
        if self.building_path(avatar_id).is_dir():
            raise NotReady(
                f"avatar {avatar_id!r} is still being built", f"Wait for it: warmtalk avatar show {avatar_id} --watch"
            )
        known = ", ".join(self.ids()[:5]) or "none yet"
        raise NotFound(
            f"there is no avatar {avatar_id!r} (there are: {known})",
            f"A new one: warmtalk avatar create {avatar_id} SOURCE",
        )

    def open(self, avatar_id: str, *, cache_bytes: int = 512 << 20) -> Bundle:
        """Opens a finished avatar. Raises the errors of `find`, and Damaged."""
        return Bundle(self.find(avatar_id), cache_bytes=cache_bytes)


class SessionStore:
    """Sessions folder: `<id>/` holds a session."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, session_id: str) -> Path:
        """Returns the folder of a session, existing or not. Raises InvalidInput."""
        return self.root / checked_id(session_id, "session_id")

    def ids(self) -> list[str]:
        """Returns the ids of all sessions, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _ID.fullmatch(p.name) and (p / "session.json").is_file())
