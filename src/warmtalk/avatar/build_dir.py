"""The folder that a build fills: made ready, found again after a crash, put in its place when it is done."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from warmtalk.avatar.build_request import BuildRequest, build_manifest
from warmtalk.core.bundle_files import write_json

MANIFEST_FILE = "order.json"


def prepare(work: Path, order: BuildRequest) -> None:
    """The work folder with all its parts; emptied when another order left something in it."""
    note = work / MANIFEST_FILE
    try:
        same = json.loads(note.read_text("utf-8")) == build_manifest(order)
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(work, ignore_errors=True)
    for folder in ("frames", "parts", "masks"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    if not same:
        write_json(note, build_manifest(order))


def publish(work: Path, path: Path) -> None:
    """The work folder becomes the avatar; an older one of that name is moved away first, then removed.

    What only a build needs goes last: a crash between the steps leaves something that can be asked for again.
    """
    old = tombstone_path(work.parent)
    if path.is_dir():
        path.rename(old)
    work.rename(path)
    (path / MANIFEST_FILE).unlink()
    for folder in (path / "parts", old):
        shutil.rmtree(folder, ignore_errors=True)


def tombstone_path(building: Path) -> Path:
    """A name beside the builds to move a folder to before it is removed; what a crash leaves there is swept away."""
    return building / f".trash-{uuid.uuid4().hex}"
