"""Downloads a file of known size and sha256 by https. Resumes partial downloads; the file appears once verified."""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from warmtalk.core.errors import Damaged, Interrupted, StorageFull, Unreachable, WarmtalkError

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


def download(url: str, path: Path, size: int, sha256: str, stopped: Callable[[], bool] = lambda: False) -> Path:
    """Downloads `url` to `path` and returns `path`. Blocks, with a progress bar when stderr is a terminal.

    A broken connection is resumed as long as each attempt brings data; `path`.part keeps the data for the next call.
    Raises Unreachable; StorageFull; Interrupted soon after `stopped()` returns True; Damaged when size or sha256
    differ, after deleting the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, leave=False, disable=None) as bar:
        while True:
            before = _size(part)
            try:
                _resume(url, part, size, bar, stopped)
                break
            except (OSError, http.client.HTTPException) as error:
                if _size(part) == before or isinstance(error, urllib.error.HTTPError):
                    raise _failure(url, error) from error
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        part.unlink()
        raise _mismatch(url, f"sha256 {digest[:16]}...", f"{sha256[:16]}...")
    return part.replace(path)


def _resume(url: str, part: Path, size: int, bar: tqdm[Any], stopped: Callable[[], bool]) -> None:
    """Appends to `part` until `size` bytes are stored.

    Raises OSError or HTTPException when the connection breaks, Interrupted, Damaged when the server reports another
    size.
    """
    have = _size(part)
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - our URL
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - as above
        start = have if response.status == http.client.PARTIAL_CONTENT else 0
        if response.length is not None and start + response.length != size:
            part.unlink(missing_ok=True)
            raise _mismatch(url, f"{start + response.length} bytes", str(size))
        bar.update(start - bar.n)
        with open(part, "ab" if start else "wb") as file:
            while data := response.read(_CHUNK_BYTES):
                file.write(data)
                bar.update(len(data))
                if stopped():
                    raise Interrupted(f"{part} is kept", "Run the command again to continue")
            if file.tell() < size:
                raise http.client.IncompleteRead(b"", size - file.tell())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mismatch(url: str, actual: str, expected: str) -> Damaged:
    return Damaged(
        f"{url} gave a file of {actual}, not {expected}",
        "Run the command again; if the error stays, a proxy answers instead, or the file was replaced",
    )


def _failure(url: str, error: OSError | http.client.HTTPException) -> WarmtalkError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageFull("the disk is full", "Free some space and run the command again: the download continues")
    return Unreachable(
        f"{url} cannot be fetched ({str(error) or type(error).__name__})",
        "Check the network and run the command again, which continues the download; or fetch the file elsewhere, then "
        "run: warmtalk weights import DIR",
    )
