"""A video file over HTTP: Range, ETag, and a view of its first bytes for as long as the file grows."""

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

_PIECE_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class _FileResponse(StreamingResponse):
    """Closes its file, also when nobody reads it."""

    def __init__(self, file: BinaryIO, start: int, length: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(_read(file, start, length), status, headers, media_type="video/mp4")
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def video(request: Request, path: Path, *, most: int | None = None, name: str = "") -> Response:
    """The file, its first `most` bytes, or the part that the request's Range asks for; `name` makes it a download."""
    file = open(path, "rb")  # noqa: SIM115 - the response closes it
    try:
        stat = os.fstat(file.fileno())
        size = stat.st_size if most is None else min(most, stat.st_size)
        # Of a sized view only the length in the head changes while the conversation grows; a file that is made again
        # is another inode. So a player that began with the view may go on with it.
        tag = f'"{stat.st_mtime_ns:x}-{size:x}"' if most is None else f'W/"{stat.st_ino:x}-{size:x}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
        if name:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        if tag in request.headers.get("if-none-match", ""):
            file.close()
            return Response(status_code=304, headers=headers)
        start, end, status = _part(request, tag, size)
    except BaseException:
        file.close()
        raise
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return _FileResponse(file, start, 0 if request.method == "HEAD" else end - start, status, headers)


def _part(request: Request, tag: str, size: int) -> tuple[int, int, int]:
    """(first byte, byte after the last, status). Several ranges, or a Range of another version, get the whole."""
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not asked or asked.groups() == ("", "") or request.headers.get("if-range", tag) != tag:
        return 0, size, 200
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or end <= start:
        raise HTTPException(416, f"the video has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return start, end, 206


async def _read(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while length > 0 and (data := await asyncio.to_thread(file.read, min(_PIECE_BYTES, length))):
        length -= len(data)
        yield data
