"""Video files over HTTP: Range, ETag, and a fixed-size view of a growing file."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

_CHUNK_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class _FileResponse(StreamingResponse):
    """Streams part of an open file and closes the file, also when the client never reads the body."""

    def __init__(self, file: BinaryIO, start: int, length: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(_read(file, start, length), status, headers, media_type="video/mp4")
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def video_response(request: Request, path: Path, *, max_bytes: int | None = None, name: str = "") -> Response:
    """Returns the file, its first `max_bytes`, or the byte range of the request; a `name` makes the response a
    download.

    Raises HTTPException 416 for a range outside the file and OSError for a missing file.
    """
    file = open(path, "rb")  # noqa: SIM115 - the response closes it
    try:
        stat = os.fstat(file.fileno())
        size = stat.st_size if max_bytes is None else min(max_bytes, stat.st_size)
        # While the conversation grows, a sized view changes only in the duration in its header, and a rebuilt file is
        # another inode. The weak tag is therefore stable, and a player can continue a view after an append.
        tag = f'"{stat.st_mtime_ns:x}-{size:x}"' if max_bytes is None else f'W/"{stat.st_ino:x}-{size:x}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
        if name:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        if tag in request.headers.get("if-none-match", ""):
            file.close()
            return Response(status_code=304, headers=headers)
        start, end, status = _byte_range(request, tag, size)
    except BaseException:
        file.close()
        raise
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return _FileResponse(file, start, 0 if request.method == "HEAD" else end - start, status, headers)


def _byte_range(request: Request, tag: str, size: int) -> tuple[int, int, int]:
    """Returns (first byte, end byte exclusive, status).

    Requests for several ranges, or with an If-Range of another version, get the whole file.
    """
    header = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not header or header.groups() == ("", "") or request.headers.get("if-range", tag) != tag:
        return 0, size, 200
    first, last = header.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or end <= start:
        raise HTTPException(416, f"the video has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, end, 206


async def _read(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while length > 0 and (data := await asyncio.to_thread(file.read, min(_CHUNK_BYTES, length))):
        length -= len(data)
        yield data
