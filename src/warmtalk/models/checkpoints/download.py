"""A file of known size and sha256 by plain https: goes on where an earlier try stopped, is put in place when right."""

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

_PIECE = 1 << 20
_TIMEOUT_S = 30.0


def download(url: str, path: Path, size: int, sha256: str, stopped: Callable[[], bool] = lambda: False) -> Path:
    """Blocks, with a progress bar on a terminal's stderr. A broken connection is taken up again as long as each try
    brings something; what came so far stays in `path`.part for the next call.

    Raises Unreachable, StorageFull, Interrupted soon after `stopped()`; Damaged when it is another file than expected,
    which is then deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, leave=False, disable=None) as bar:
        while True:
            before = _size(part)
            try:
                _go_on(url, part, size, bar, stopped)
                break
            except (OSError, http.client.HTTPException) as error:
                if _size(part) == before or isinstance(error, urllib.error.HTTPError):
                    raise _failure(url, error) from error
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        part.unlink()
        raise _another(url, f"sha256 {digest[:16]}...", f"{sha256[:16]}...")
    return part.replace(path)


def _go_on(url: str, part: Path, size: int, bar: tqdm[Any], stopped: Callable[[], bool]) -> None:
    """Raises OSError or HTTPException when the connection breaks before `size` bytes are there."""
    have = _size(part)
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
        start = have if answer.status == http.client.PARTIAL_CONTENT else 0
        if answer.length is not None and start + answer.length != size:
            part.unlink(missing_ok=True)
            raise _another(url, f"{start + answer.length} bytes", str(size))
        bar.update(start - bar.n)
        with open(part, "ab" if start else "wb") as file:
            while data := answer.read(_PIECE):
                file.write(data)
                bar.update(len(data))
                if stopped():
                    raise Interrupted(f"{part} is kept", "Run the command again to go on")
            if file.tell() < size:
                raise http.client.IncompleteRead(b"", size - file.tell())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _another(url: str, found: str, wanted: str) -> Damaged:
    return Damaged(
        f"{url} gave a file of {found}, not {wanted}",
        "Run the command again; if it stays so, a proxy is in the way or the file was replaced",
    )


def _failure(url: str, error: OSError | http.client.HTTPException) -> WarmtalkError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageFull("the disk is full", "Make room and run the command again: it goes on")
    return Unreachable(
        f"{url} cannot be fetched ({str(error) or type(error).__name__})",
        "Check the network and run the command again, it goes on; or fetch the file elsewhere, then run: "
        "warmtalk weights import DIR",
    )
