"""Durable files, and the errors of a full volume."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from warmtalk.core.errors import StorageFull

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def storage_full_error(activity: str) -> StorageFull:
    """Returns the error for a full volume. `activity` completes "the volume is full (while ...)"."""
    return StorageFull(
        f"the volume is full (while {activity})", "Make room: delete sessions or avatars, then try again"
    )


@contextlib.contextmanager
def storage_errors(activity: str) -> Iterator[None]:
    """Converts the OSErrors of a full disk into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise storage_full_error(activity) from error
        raise


def publish_file(temporary: Path, target: Path, activity: str) -> None:
    """Moves a finished file to `target`, durable against a power cut. Raises StorageFull."""
    with storage_errors(activity):
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        fsync_directory(target.parent)


def fsync_directory(folder: Path) -> None:
    """Makes the names in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_files(*paths: Path) -> None:
    """Deletes the paths that exist."""
    for path in paths:
        path.unlink(missing_ok=True)
