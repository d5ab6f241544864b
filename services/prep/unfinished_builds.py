"""Failed and interrupted builds on the volume, which survive a restart of the service."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from warmtalk.avatar.build_dir import MANIFEST_FILE
from warmtalk.avatar.build_request import BuildParams, BuildRequest, build_manifest
from warmtalk.core.bundle_files import write_json
from warmtalk.services.prep.build_state import Build, BuildState
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_INTERRUPTED = "the build was interrupted when the service stopped. Create the avatar again: the build resumes"
_FAILED = ".failed.json"


class UnfinishedBuilds:
    """Build directories of interrupted builds, and a file `<id>.failed.json` for each failed build. Thread-safe."""

    def __init__(self, store: AvatarStore) -> None:
        self._store = store

    def ids(self) -> set[str]:
        """Returns the avatar ids of all unfinished builds."""
        interrupted = {path.parent.name for path in self._store.building.glob(f"*/{MANIFEST_FILE}")}
        return interrupted | {path.name.removesuffix(_FAILED) for path in self._store.building.glob(f"*{_FAILED}")}

    def find(self, avatar_id: str) -> Build | None:
        """Returns a build that failed or was interrupted in an earlier process, as FAILED."""
        work = self._store.building_path(avatar_id)
        for path in (self._failure_path(avatar_id), work / MANIFEST_FILE):
            try:
                raw = json.loads(path.read_text("utf-8"))
                params = BuildParams.from_record(raw["params"])
                request = BuildRequest(avatar_id, work, raw["source_name"], raw["source_sha256"], params)
                return Build(request, BuildState.FAILED, path.stat().st_mtime, error=raw.get("error", _INTERRUPTED))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def failed(self, avatar_id: str) -> bool:
        """Returns whether a failure of this avatar is saved."""
        return self._failure_path(avatar_id).is_file()

    def save_failure(self, request: BuildRequest, error: str) -> None:
        """Saves the reason of a failure. An error of the volume is logged."""
        try:
            self._store.building.mkdir(parents=True, exist_ok=True)
            write_json(self._failure_path(request.avatar_id), {**build_manifest(request), "error": error})
        except OSError as reason:
            log.warning("the failure of %s cannot be saved: %s", request.avatar_id, reason)

    def forget_failure(self, avatar_id: str) -> None:
        """Removes the saved failure, if any."""
        self._failure_path(avatar_id).unlink(missing_ok=True)

    def _failure_path(self, avatar_id: str) -> Path:
        return self._store.building / f"{avatar_id}{_FAILED}"
