"""Uploaded source files: `.uploads/<id>` with a JSON note each, kept for one hour."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from warmtalk.core.bundle_files import write_json
from warmtalk.core.errors import BadMedia, Interrupted, InvalidInput, NotFound
from warmtalk.media.file_types import HEAD_BYTES, sniff_file
from warmtalk.media.photo_decode import PHOTO_KINDS
from warmtalk.media.storage import storage_errors
from warmtalk.media.video_decode import video_kind

RETENTION_S = 3600.0
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_NAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete file."""

    upload_id: str
    path: Path
    file_name: str
    sha256: str
    size_bytes: int


class UploadStore:
    """Folder of uploads. Thread-safe: each upload has its own file."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def start(self, file_name: str, size_bytes: int) -> IncomingUpload:
        """Starts an upload; `size_bytes` is the announced size, 0 when unknown. Raises InvalidInput, StorageFull."""
        if not 1 <= len(file_name) <= _MAX_NAME_CHARS:
            raise InvalidInput(
                f"file_name has {len(file_name)} characters", f"Use 1 to {_MAX_NAME_CHARS}", field="header.file_name"
            )
        # The name appears in messages: control characters would garble a terminal or a log.
        printable = "".join(c if c.isprintable() else "?" for c in file_name)
        self._root.mkdir(parents=True, exist_ok=True)
        return IncomingUpload(self._root / uuid.uuid4().hex, printable, size_bytes, self._max_bytes)

    def find(self, upload_id: str) -> Upload:
        """Returns an upload, even when a finished build has already removed the file. Raises NotFound."""
        note = self._root / f"{upload_id}.json"
        try:
            if not _ID.fullmatch(upload_id):
                raise FileNotFoundError
            raw = json.loads(note.read_text("utf-8"))
            return Upload(upload_id, self._root / upload_id, **raw)
        except (OSError, ValueError, TypeError) as error:
            raise NotFound(
                f"there is no upload {upload_id[:40]!r}", "Uploads are kept for an hour; send the file again"
            ) from error

    def remove_file(self, source: Path) -> None:
        """Removes the file of an upload that became an avatar and keeps the note; ignores files outside the folder."""
        if source.parent == self._root:
            source.unlink(missing_ok=True)

    def remove_expired(self, keep: set[Path]) -> None:
        """Removes files older than an hour, except the files in `keep`."""
        if not self._root.is_dir():
            return
        for path in self._root.iterdir():
            if path not in keep and time.time() - path.stat().st_mtime > RETENTION_S:
                path.unlink(missing_ok=True)


class IncomingUpload:
    """An upload in progress, as a context manager. Leaving by an exception or without `finish` removes the file.

    A cancelled call may leave the context while a thread is still in `write` or `finish`: leaving waits for the thread.
    """

    def __init__(self, path: Path, name: str, announced_bytes: int, max_bytes: int) -> None:
        self._path = path
        self._name = name
        self._announced_bytes = announced_bytes
        self._max_bytes = max_bytes
        self._size = 0
        self._digest = hashlib.sha256()
        self._sniffed = False
        self._finished = False
        self._busy = threading.Lock()
        self._file: BinaryIO | None = None

    def __enter__(self) -> IncomingUpload:
        self._check_size(self._announced_bytes)
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._busy:
            if self._file is not None:
                self._file.close()
                self._file = None
            if kind is not None or not self._finished:
                self._path.unlink(missing_ok=True)
                self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self._path.with_suffix(".json")

    def write(self, data: bytes) -> None:
        """Appends data.

        Raises BadMedia as soon as the size or the file type is wrong, StorageFull, and Interrupted after the end.
        """
        self._check_size(self._size + len(data))
        with self._busy, storage_errors(f"receiving {self._name}"):
            self._open_file().write(data)
            self._size += len(data)
            if not self._sniffed and self._size >= HEAD_BYTES:
                self._open_file().flush()
                self._sniff()
        self._digest.update(data)

    def finish(self) -> Upload:
        """Completes the upload. Raises BadMedia for an empty file or a wrong size; StorageFull, Interrupted."""
        if not self._size:
            raise BadMedia(f"{self._name} is empty", "Upload it again")
        if self._announced_bytes and self._announced_bytes != self._size:
            raise BadMedia(
                f"{self._name} arrived with {self._size} of {self._announced_bytes} bytes", "Upload it again"
            )
        upload = Upload(self._path.name, self._path, self._name, self._digest.hexdigest(), self._size)
        note = {"file_name": upload.file_name, "sha256": upload.sha256, "size_bytes": upload.size_bytes}
        with self._busy, storage_errors(f"receiving {self._name}"):
            self._open_file().close()
            self._sniff()
            write_json(self._note, note)
            self._finished = True
        return upload

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise Interrupted(f"the upload of {self._name} was interrupted")
        return self._file

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise BadMedia(
                f"{self._name} is larger than {self._max_bytes >> 20} MiB", "Cut it or scale it down, then try again"
            )

    def _sniff(self) -> None:
        if sniff_file(self._path) not in PHOTO_KINDS:
            video_kind(self._path, self._name)
        self._sniffed = True
