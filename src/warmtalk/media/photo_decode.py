"""An untrusted photo as one BGR frame. It is decoded in a child: this process never touches its pixels' code."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media import photo_decode_worker
from warmtalk.media.file_types import sniff_file, unsupported_media
from warmtalk.media.sandbox import PHOTO_LIMITS, sandbox_command, sandbox_environment

PHOTO_KINDS = ("jpg", "png", "webp")
MAX_PIXELS = 100_000_000
"""Of a photo; a decoded one takes 3 bytes each, in the child."""
MAX_SIDE = 1920
"""Larger photos are scaled down: the frames become a video."""
MAX_WAIT_S = 60.0
_MOST_BYTES = 8 + MAX_SIDE * MAX_SIDE * 3
_CHILD = Path(photo_decode_worker.__file__)


def decode_photo(path: Path, *, name: str = "") -> Image:
    """The photo upright (EXIF), [H, W, 3] uint8 BGR, sides even and at most MAX_SIDE.

    `name` stands for the file in messages. Blocks, for about 0.3 s and MAX_WAIT_S at most. Raises BadMedia when it is
    missing, no jpg, png or webp, broken, cut off, too large or too slow; the size is read before anything is decoded.
    """
    name = name or path.name
    kind = sniff_file(path)
    if kind not in PHOTO_KINDS:
        raise unsupported_media(name, kind)
    command = sandbox_command([sys.executable, "-I", str(_CHILD), str(MAX_PIXELS), str(MAX_SIDE)], PHOTO_LIMITS)
    with open(path, "rb") as file:
        child = subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=sandbox_environment()
        )
    assert child.stdout is not None
    alarm = threading.Timer(MAX_WAIT_S, child.kill)
    alarm.start()
    try:
        said = child.stdout.read(_MOST_BYTES)
        child.stdout.close()
        status = child.wait()
    finally:
        alarm.cancel()
        child.kill()
        child.wait()
    if status == -signal.SIGKILL:
        raise BadMedia(f"{name} takes too long to decode", "Save it again as jpg or png")
    return _picture(name, status, said)


def _picture(name: str, status: int, said: bytes) -> Image:
    """What the child said. Nothing of it is taken on trust."""
    height, width = struct.unpack_from("<II", said) if len(said) >= 8 else (0, 0)
    if status == photo_decode_worker.TOO_LARGE:
        raise BadMedia(f"{name} is too large: {width} x {height}", f"Scale it down to {MAX_SIDE} pixels a side")
    if status == photo_decode_worker.CUT_OFF:
        raise BadMedia(f"{name} is cut off: its end is missing", "Upload it again, or export it once more")
    whole = len(said) == 8 + height * width * 3
    if status or not whole or not 2 <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise BadMedia(f"{name} cannot be decoded", "Save it again as jpg or png")
    return np.frombuffer(said, np.uint8, offset=8).reshape(height, width, 3).copy()
