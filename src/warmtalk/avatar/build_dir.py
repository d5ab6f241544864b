"""Build directory of an avatar: prepared, found again after a crash, and published atomically."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from warmtalk.avatar.build_request import BuildRequest, build_manifest
from warmtalk.core.bundle_files import write_json

MANIFEST_FILE = "order.json"


def prepare(work: Path, request: BuildRequest) -> None:
    """Creates the build directory; empties a directory that was left by a different request."""
    path = work / MANIFEST_FILE
    manifest = build_manifest(request)
    try:
        same = json.loads(path.read_text("utf-8")) == manifest
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(work, ignore_errors=True)
    for folder in ("frames", "parts", "masks"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    if not same:
        write_json(path, manifest)


def publish(work: Path, path: Path) -> None:
    """Moves the build directory to `path`; an older avatar of that name is moved away first and then removed.

    Files that only a build needs are removed last: a crash between the steps leaves an avatar that can be requested
    again.
    """
    old = tombstone_path(work.parent)
    if path.is_dir():
        path.rename(old)
    work.rename(path)
    (path / MANIFEST_FILE).unlink()
    for folder in (path / "parts", old):
        shutil.rmtree(folder, ignore_errors=True)


def tombstone_path(building: Path) -> Path:
    """Returns a new name in the `building` folder, to which a folder is moved before it is removed.

    Folders that a crash leaves under such a name are removed at the next start.
    """
    return building / f".trash-{uuid.uuid4().hex}"
