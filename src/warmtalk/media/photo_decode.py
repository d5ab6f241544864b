"""Decodes an untrusted photo to one BGR image, in a child: this process never runs a decoder on the file."""

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
"""Maximum pixels of a photo. A decoded pixel takes 3 bytes of the child's memory."""
MAX_SIDE = 1920
"""Larger photos are scaled down: the frames become a video."""
MAX_WAIT_S = 60.0
_HEADER_BYTES = 8
_MAX_OUTPUT_BYTES = _HEADER_BYTES + MAX_SIDE * MAX_SIDE * 3
_WORKER = Path(photo_decode_worker.__file__)


def decode_photo(path: Path, *, name: str = "") -> Image:
    """Returns the photo upright (by EXIF), [H, W, 3] uint8 BGR, with even sides of at most MAX_SIDE.

    `name` stands for the file in messages. Blocks for about 0.3 s, at most MAX_WAIT_S. Raises BadMedia when the file is
    missing, no jpg, png or webp, broken, cut off, too large or too slow. The size is checked before decoding.
    """
    name = name or path.name
    kind = sniff_file(path)
    if kind not in PHOTO_KINDS:
        raise unsupported_media(name, kind)
    command = sandbox_command([sys.executable, "-I", str(_WORKER), str(MAX_PIXELS), str(MAX_SIDE)], PHOTO_LIMITS)
    with open(path, "rb") as file:
        child = subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=sandbox_environment()
        )
    assert child.stdout is not None
    watchdog = threading.Timer(MAX_WAIT_S, child.kill)
    watchdog.start()
    try:
        output = child.stdout.read(_MAX_OUTPUT_BYTES)
        child.stdout.close()
        status = child.wait()
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()
    if status == -signal.SIGKILL:
        raise BadMedia(f"{name} takes too long to decode", "Save it again as jpg or png")
    return _parse_output(name, status, output)


def _parse_output(name: str, status: int, output: bytes) -> Image:
    """Returns the image of the child's output. The output is not trusted: every number is checked."""
    height, width = struct.unpack_from("<II", output) if len(output) >= _HEADER_BYTES else (0, 0)
    if status == photo_decode_worker.TOO_LARGE:
        raise BadMedia(f"{name} is too large: {width} x {height}", f"Scale it down to {MAX_SIDE} pixels a side")
    if status == photo_decode_worker.CUT_OFF:
        raise BadMedia(f"{name} is cut off: its end is missing", "Upload it again, or export it once more")
    complete = len(output) == _HEADER_BYTES + height * width * 3
    if status or not complete or not 2 <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise BadMedia(f"{name} cannot be decoded", "Save it again as jpg or png")
    return np.frombuffer(output, np.uint8, offset=_HEADER_BYTES).reshape(height, width, 3).copy()
