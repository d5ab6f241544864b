"""Builds in the order they were asked for, one at a time in one thread, and the state of every avatar."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from warmtalk.avatar.build_dir import MANIFEST_FILE, tombstone_path
from warmtalk.avatar.build_match import differences, is_up_to_date, satisfies
from warmtalk.avatar.build_request import BuildParams, BuildRequest, build_manifest
from warmtalk.avatar.builder import AvatarBuilder, BuildProgress
from warmtalk.core.bundle import AvatarInfo, read_info, write_json
from warmtalk.core.errors import AlreadyExists, Busy, Damaged, WarmtalkError
from warmtalk.media.file_types import find_ffmpeg
from warmtalk.services.prep.uploads import UploadStore
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

STOP_S = 30.0
"""How long a delete or the end of the service waits for the builder to let go."""
_CUT_OFF = "the build was cut off when the service stopped. Ask for it again: it goes on from where it was"
_FAILED = ".failed.json"


QUEUED = BuildProgress()


class BuildState(Enum):
    CREATING = 1
    READY = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Build:
    """An order and where it stands. Replaced as a whole, never changed."""

    order: BuildRequest
    state: BuildState
    asked: float
    """Seconds since the epoch."""
    progress: BuildProgress = QUEUED
    error: str = ""


class _Stopped(Exception):
    """Raised inside a build that is to end."""


class BuildJobs:
    """Thread-safe. Calls do not block, but for `delete` and `close`, which wait until the builder lets go.

    A finished build is forgotten: the bundle speaks for itself. A failed one is kept, also over a restart, until
    the avatar is asked for again or deleted.
    """

    def __init__(
        self, store: AvatarStore, uploads: UploadStore, make_builder: Callable[[], AvatarBuilder], most: int
    ) -> None:
        """`make_builder` is called in the worker thread. At most `most` builds wait."""
        self._store = store
        self._uploads = uploads
        self._make_builder = make_builder
        self._most = most
        self._changed = threading.Condition()
        self._builds: dict[str, Build] = {}
        """Under way and failed, by avatar, in the order they were asked for. Guarded by `_changed`, as what follows."""
        self._doomed: set[str] = set()
        """Avatars that are being deleted: the worker stops building one after its current frame."""
        self._running: BuildRequest | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._run, name="builds", daemon=True)

    def start(self) -> None:
        """Clears what a crash left, then takes orders."""
        for path in self._store.building.glob(".trash-*"):
            shutil.rmtree(path, ignore_errors=True)
        self._worker.start()

    def close(self) -> None:
        """The build under way stops after its current frame; what it finished is used when it is asked for again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(STOP_S)

    def submit(self, order: BuildRequest, *, replace_other: bool = False) -> Build | AvatarInfo:
        """The finished avatar when it is the same, the build under way when it is the same, else a new build.

        With `replace_other` a finished one is the same only when it would come out the same again.
        Raises AlreadyExists, Busy, or NotReady when there is no ffmpeg.
        """
        with self._changed:
            if order.avatar_id in self._doomed:
                raise Busy(f"avatar {order.avatar_id!r} is being deleted", "Try again in a moment")
            running = self._builds.get(order.avatar_id)
            if running is not None and running.state is BuildState.CREATING:
                if build_manifest(running.order) == build_manifest(order):
                    return running
                raise _taken(order.avatar_id, "is being built from something else")
            finished = self._finished(order.avatar_id)
            if (
                finished is not None
                and satisfies(finished, order)
                and (is_up_to_date(finished, order) or not replace_other)
            ):
                self._builds.pop(order.avatar_id, None)
                return finished
            if self._store.path(order.avatar_id).is_dir() and not replace_other:
                raise _taken(order.avatar_id, _remark(finished, order))
            find_ffmpeg()
            return self._enqueue(order)

    def find(self, avatar_id: str) -> Build | AvatarInfo:
        """A build under way or failed before a finished avatar. Raises InvalidInput, NotFound, Damaged."""
        path = self._store.path(avatar_id)
        with self._changed:
            build = self._builds.get(avatar_id)
        if build is not None:
            return build
        if path.is_dir():
            return read_info(path)
        return self._left(avatar_id) or read_info(self._store.find(avatar_id))

    def ids(self) -> list[str]:
        """All avatars, in order: finished, under way, failed and cut off."""
        with self._changed:
            known = set(self._builds)
        known |= {path.parent.name for path in self._store.building.glob(f"*/{MANIFEST_FILE}")}
        known |= {path.name.removesuffix(_FAILED) for path in self._store.building.glob(f"*{_FAILED}")}
        return sorted(known | set(self._store.ids()))

    def sources(self) -> set[Path]:
        """Files that builds under way still need."""
        with self._changed:
            return {build.order.source for build in self._creating()}

    def delete(self, avatar_id: str) -> None:
        """Stops its build and removes the avatar and all that a build left. Raises InvalidInput, NotFound."""
        self._find_any(avatar_id)
        with self._changed:
            self._doomed.add(avatar_id)
            self._changed.wait_for(lambda: self._running is None or self._running.avatar_id != avatar_id, STOP_S)
        try:
            self._failed_note(avatar_id).unlink(missing_ok=True)
            for folder in (self._store.path(avatar_id), self._store.building_path(avatar_id)):
                self._remove(folder)
        finally:
            with self._changed:
                self._builds.pop(avatar_id, None)
                self._doomed.discard(avatar_id)

    def _find_any(self, avatar_id: str) -> None:
        """Raises NotFound unless there is something, be it damaged."""
        folders = (self._store.path(avatar_id), self._store.building_path(avatar_id))
        with self._changed:
            known = avatar_id in self._builds
        if not (known or any(folder.is_dir() for folder in folders) or self._failed_note(avatar_id).is_file()):
            self._store.find(avatar_id)

    def _remove(self, folder: Path) -> None:
        """Out of sight in one step, so that no reader meets half an avatar."""
        if folder.is_dir():
            self._store.building.mkdir(exist_ok=True)
            old = tombstone_path(self._store.building)
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def _enqueue(self, order: BuildRequest) -> Build:
        waiting = sum(build.order is not self._running for build in self._creating())
        if waiting >= self._most:
            raise Busy(f"{waiting} builds are waiting already", "Try again later", retry_after_s=10.0)
        self._builds.pop(order.avatar_id, None)
        build = self._builds[order.avatar_id] = Build(order, BuildState.CREATING, time.time())
        self._failed_note(order.avatar_id).unlink(missing_ok=True)
        self._changed.notify_all()
        return build

    def _creating(self) -> list[Build]:
        builds = self._builds.values()
        return [one for one in builds if one.state is BuildState.CREATING and one.order.avatar_id not in self._doomed]

    def _finished(self, avatar_id: str) -> AvatarInfo | None:
        """The avatar on the volume; None when there is none, or a damaged one."""
        path = self._store.path(avatar_id)
        try:
            return read_info(path) if path.is_dir() else None
        except Damaged:
            return None

    def _left(self, avatar_id: str) -> Build | None:
        """A build that failed, or ended with its process, before this one started."""
        work = self._store.building_path(avatar_id)
        for note in (self._failed_note(avatar_id), work / MANIFEST_FILE):
            try:
                raw = json.loads(note.read_text("utf-8"))
                params = BuildParams.from_record(raw["params"])
                order = BuildRequest(avatar_id, work, raw["source_name"], raw["source_sha256"], params)
                return Build(order, BuildState.FAILED, note.stat().st_mtime, error=raw.get("error", _CUT_OFF))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def _failed_note(self, avatar_id: str) -> Path:
        return self._store.building / f"{avatar_id}{_FAILED}"

    def _run(self) -> None:
        builder = None
        while (order := self._next()) is not None:
            try:
                builder = builder or self._make_builder()
                builder.build(order, lambda progress, order=order: self._tell(order, progress))  # type: ignore[misc]
            except _Stopped:
                log.info("building %s was stopped", order.avatar_id)
            except WarmtalkError as error:
                log.info("building %s failed: %s", order.avatar_id, error)
                self._fail(order, str(error))
            except Exception:  # the thread must outlive every build
                log.exception("building %s failed", order.avatar_id)
                self._fail(order, "something went wrong in the service; its log has the cause")
            else:
                self._uploads.used(order.source)
                self._end(order, None)
            finally:
                self._let_go()

    def _next(self) -> BuildRequest | None:
        """The build that waits longest, as soon as there is one; None when the service ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._creating())
            self._running = None if self._closed else self._creating()[0].order
            return self._running

    def _tell(self, order: BuildRequest, progress: BuildProgress) -> None:
        with self._changed:
            build = self._mine(order)
            if self._closed or build is None or order.avatar_id in self._doomed:
                raise _Stopped
            self._builds[order.avatar_id] = replace(build, progress=progress)

    def _fail(self, order: BuildRequest, error: str) -> None:
        """Frees the volume, and keeps the reason where a restarted service finds it."""
        shutil.rmtree(self._store.building_path(order.avatar_id), ignore_errors=True)
        if self._store.path(order.avatar_id).is_dir():
            error += ". The avatar made before is still there"
        else:
            self._note_failure(order, error)
        self._end(order, error)

    def _note_failure(self, order: BuildRequest, error: str) -> None:
        try:
            self._store.building.mkdir(parents=True, exist_ok=True)
            write_json(self._failed_note(order.avatar_id), {**build_manifest(order), "error": error})
        except OSError as reason:
            log.warning("the failure of %s cannot be noted: %s", order.avatar_id, reason)

    def _end(self, order: BuildRequest, error: str | None) -> None:
        with self._changed:
            build = self._mine(order)
            if build is None:
                return
            if error is None:
                del self._builds[order.avatar_id]
            else:
                self._builds[order.avatar_id] = replace(build, state=BuildState.FAILED, error=error)

    def _mine(self, order: BuildRequest) -> Build | None:
        """The build of this very order; None when a delete did not wait for its end. `_changed` is held."""
        build = self._builds.get(order.avatar_id)
        return build if build is not None and build.order is order else None

    def _let_go(self) -> None:
        with self._changed:
            self._running = None
            self._changed.notify_all()


def _remark(finished: AvatarInfo | None, order: BuildRequest) -> str:
    """In which way it is another avatar than the one asked for."""
    other = differences(finished, order) if finished else ["damaged"]
    if not {"source", "maker", "damaged"} & set(other):
        return f"was built with another {', '.join(other)}"
    return "is damaged" if other == ["damaged"] else "was built from something else"


def _taken(avatar_id: str, why: str) -> AlreadyExists:
    return AlreadyExists(f"avatar {avatar_id!r} {why}", "Use another id, or replace it (--replace)")
