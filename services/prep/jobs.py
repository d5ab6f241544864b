"""Build queue: one build at a time in one thread, in order of submission, and the state of every avatar."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from warmtalk.avatar.build_dir import tombstone_path
from warmtalk.avatar.build_match import differences, is_up_to_date, satisfies
from warmtalk.avatar.build_request import BuildRequest, build_manifest
from warmtalk.avatar.builder import AvatarBuilder, BuildProgress
from warmtalk.core.bundle_files import AvatarInfo, read_info
from warmtalk.core.errors import AlreadyExists, Busy, Damaged, WarmtalkError
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.services.prep.build_state import Build, BuildState
from warmtalk.services.prep.unfinished_builds import UnfinishedBuilds
from warmtalk.services.prep.uploads import UploadStore
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

STOP_S = 30.0
"""Maximum wait of a delete, or of the end of the service, for the builder to stop."""


class _Stopped(Exception):
    """Raised inside a build to stop the build."""


class BuildJobs:
    """Queue and states of the builds. Thread-safe. Only `delete` and `close` block, until the builder has stopped.

    A finished build is removed from the list, because the bundle contains its state. A failed build is kept, even after
    a restart, until the avatar is requested again or deleted.
    """

    def __init__(
        self, store: AvatarStore, uploads: UploadStore, make_builder: Callable[[], AvatarBuilder], max_queue: int
    ) -> None:
        """`make_builder` is called in the worker thread. At most `max_queue` builds wait."""
        self._store = store
        self._unfinished = UnfinishedBuilds(store)
        self._uploads = uploads
        self._make_builder = make_builder
        self._max_queue = max_queue
        self._changed = threading.Condition()
        self._builds: dict[str, Build] = {}
        """Running, queued and failed builds by avatar id, in order of submission. Guarded by `_changed`, as the fields
        below."""
        self._deleting: set[str] = set()
        """Avatars that are being deleted: the worker stops such a build after the current frame."""
        self._running: BuildRequest | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._run, name="builds", daemon=True)

    def start(self) -> None:
        """Removes folders left by a crash, then starts the worker."""
        for path in self._store.building.glob(".trash-*"):
            shutil.rmtree(path, ignore_errors=True)
        self._worker.start()

    def close(self) -> None:
        """Stops the running build after its current frame; a later request for the avatar resumes the build."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(STOP_S)

    def submit(self, request: BuildRequest, *, replace_other: bool = False) -> Build | AvatarInfo:
        """Returns the finished avatar or the active build that satisfies the request, or else queues a new build.

        With `replace_other` a finished avatar satisfies the request only if a new build would give the same bundle.
        Raises AlreadyExists, Busy, or NotReady when there is no ffmpeg.
        """
        with self._changed:
            if request.avatar_id in self._deleting:
                raise Busy(f"avatar {request.avatar_id!r} is being deleted", "Try again in a few seconds")
            running = self._builds.get(request.avatar_id)
            if running is not None and running.state is BuildState.CREATING:
                if build_manifest(running.request) == build_manifest(request):
                    return running
                raise _already_exists(request.avatar_id, "is being built with another source or other parameters")
            finished = self._finished_avatar(request.avatar_id)
            if (
                finished is not None
                and satisfies(finished, request)
                and (is_up_to_date(finished, request) or not replace_other)
            ):
                self._builds.pop(request.avatar_id, None)
                return finished
            if self._store.path(request.avatar_id).is_dir() and not replace_other:
                raise _already_exists(request.avatar_id, _difference(finished, request))
            find_ffmpeg()
            return self._enqueue(request)

    def find(self, avatar_id: str) -> Build | AvatarInfo:
        """Returns the active or failed build of the avatar, or else the finished avatar.

        Raises InvalidInput, NotFound, Damaged.
        """
        path = self._store.path(avatar_id)
        with self._changed:
            build = self._builds.get(avatar_id)
        if build is not None:
            return build
        if path.is_dir():
            return read_info(path)
        return self._unfinished.find(avatar_id) or read_info(self._store.find(avatar_id))

    def ids(self) -> list[str]:
        """Returns the ids of all avatars, sorted: finished, active, failed and interrupted."""
        with self._changed:
            known = set(self._builds)
        return sorted(known | self._unfinished.ids() | set(self._store.ids()))

    def sources(self) -> set[Path]:
        """Returns the source files that active builds still need."""
        with self._changed:
            return {build.request.source for build in self._active_builds()}

    def delete(self, avatar_id: str) -> None:
        """Stops the avatar's build and removes the avatar and all files of a build. Raises InvalidInput, NotFound."""
        self._require_any(avatar_id)
        with self._changed:
            self._deleting.add(avatar_id)
            self._changed.wait_for(lambda: self._running is None or self._running.avatar_id != avatar_id, STOP_S)
        try:
            self._unfinished.forget_failure(avatar_id)
            for folder in (self._store.path(avatar_id), self._store.building_path(avatar_id)):
                self._remove_folder(folder)
        finally:
            with self._changed:
                self._builds.pop(avatar_id, None)
                self._deleting.discard(avatar_id)

    def _require_any(self, avatar_id: str) -> None:
        """Raises NotFound unless the avatar or a part of a build exists, even if damaged."""
        folders = (self._store.path(avatar_id), self._store.building_path(avatar_id))
        with self._changed:
            known = avatar_id in self._builds
        if not (known or any(folder.is_dir() for folder in folders) or self._unfinished.failed(avatar_id)):
            self._store.find(avatar_id)

    def _remove_folder(self, folder: Path) -> None:
        """Removes the folder from view in one step, so that no reader sees an incomplete avatar."""
        if folder.is_dir():
            self._store.building.mkdir(exist_ok=True)
            old = tombstone_path(self._store.building)
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def _enqueue(self, request: BuildRequest) -> Build:
        waiting = sum(build.request is not self._running for build in self._active_builds())
        if waiting >= self._max_queue:
            raise Busy(f"{waiting} builds are waiting already", "Try again later", retry_after_s=10.0)
        self._builds.pop(request.avatar_id, None)
        build = self._builds[request.avatar_id] = Build(request, BuildState.CREATING, time.time())
        self._unfinished.forget_failure(request.avatar_id)
        self._changed.notify_all()
        return build

    def _active_builds(self) -> list[Build]:
        creating = [build for build in self._builds.values() if build.state is BuildState.CREATING]
        return [build for build in creating if build.request.avatar_id not in self._deleting]

    def _finished_avatar(self, avatar_id: str) -> AvatarInfo | None:
        """Returns the avatar on the volume; None for a missing or damaged avatar."""
        path = self._store.path(avatar_id)
        try:
            return read_info(path) if path.is_dir() else None
        except Damaged:
            return None

    def _run(self) -> None:
        builder = None
        while (request := self._next_request()) is not None:
            try:
                builder = builder or self._make_builder()
                builder.build(request, lambda progress, request=request: self._report_progress(request, progress))  # type: ignore[misc]
            except _Stopped:
                log.info("building %s was stopped", request.avatar_id)
            except WarmtalkError as error:
                log.info("building %s failed: %s", request.avatar_id, error)
                self._fail(request, str(error))
            except Exception:  # the thread must survive every build
                log.exception("building %s failed", request.avatar_id)
                self._fail(request, "something went wrong in the service; its log has the cause")
            else:
                self._uploads.remove_file(request.source)
                self._finish(request, None)
            finally:
                self._release()

    def _next_request(self) -> BuildRequest | None:
        """Waits for the oldest queued request; returns None when the service stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._active_builds())
            self._running = None if self._closed else self._active_builds()[0].request
            return self._running

    def _report_progress(self, request: BuildRequest, progress: BuildProgress) -> None:
        with self._changed:
            build = self._current(request)
            if self._closed or build is None or request.avatar_id in self._deleting:
                raise _Stopped
            self._builds[request.avatar_id] = replace(build, progress=progress)

    def _fail(self, request: BuildRequest, error: str) -> None:
        """Removes the build's files, and saves the reason where a restarted service finds the error."""
        shutil.rmtree(self._store.building_path(request.avatar_id), ignore_errors=True)
        if self._store.path(request.avatar_id).is_dir():
            error += ". The previous avatar is unchanged"
        else:
            self._unfinished.save_failure(request, error)
        self._finish(request, error)

    def _finish(self, request: BuildRequest, error: str | None) -> None:
        with self._changed:
            build = self._current(request)
            if build is None:
                return
            if error is None:
                del self._builds[request.avatar_id]
            else:
                self._builds[request.avatar_id] = replace(build, state=BuildState.FAILED, error=error)

    def _current(self, request: BuildRequest) -> Build | None:
        """Returns the build of exactly this request; None after a delete that did not wait. `_changed` must be held."""
        build = self._builds.get(request.avatar_id)
        return build if build is not None and build.request is request else None

    def _release(self) -> None:
        with self._changed:
            self._running = None
            self._changed.notify_all()


def _difference(finished: AvatarInfo | None, request: BuildRequest) -> str:
    """Returns how the existing avatar differs from the requested avatar, for a message."""
    other = differences(finished, request) if finished else ["damaged"]
    if not {"source", "maker", "damaged"} & set(other):
        return f"was built with another {', '.join(other)}"
    return "is damaged" if other == ["damaged"] else "was built from another source"


def _already_exists(avatar_id: str, why: str) -> AlreadyExists:
    return AlreadyExists(f"avatar {avatar_id!r} {why}", "Use another id, or replace it (--replace)")
