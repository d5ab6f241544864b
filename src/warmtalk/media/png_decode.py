"""Decodes many untrusted PNG images in one child: this process never runs a decoder on the files.

For photos see photo_decode.py.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import BadMedia
from warmtalk.media import png_decode_worker
from warmtalk.media.png_decode_worker import REQUEST, SIZE
from warmtalk.media.sandbox import VIDEO_LIMITS, sandbox_command, sandbox_environment

MAX_PIXELS = 4096 * 2304
"""Maximum pixels of one image."""
MAX_BYTES = 64 << 20
"""Maximum size of one file."""
MAX_WAIT_S = 60.0
"""Maximum time for one image."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WORKER = Path(png_decode_worker.__file__)
_HINT = "Copy the folder again"


class PngDecoder:
    """A context manager for one thread. The start takes about 0.3 s, an image little more than its decoding."""

    def __init__(self) -> None:
        command = sandbox_command([sys.executable, "-I", str(_WORKER), str(MAX_PIXELS)], VIDEO_LIMITS)
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=sandbox_environment(),
        )

    def __enter__(self) -> PngDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def decode(self, path: Path, *, channels: int = 3) -> npt.NDArray[np.uint8]:
        """Returns [H, W, 3] uint8 BGR, or [H, W] where `channels` is 1.

        Raises BadMedia. The decoder cannot be used afterwards.
        """
        data = _read_file(path)
        watchdog = threading.Timer(MAX_WAIT_S, self._child.kill)
        watchdog.start()
        try:
            return self._decode(path, data, channels)
        finally:
            watchdog.cancel()

    def _decode(self, path: Path, data: bytes, channels: int) -> npt.NDArray[np.uint8]:
        assert self._child.stdin is not None and self._child.stdout is not None
        undecodable = BadMedia(f"{path} cannot be decoded", _HINT)
        try:
            self._child.stdin.write(REQUEST.pack(len(data), channels) + data)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise undecodable from None
        size = self._child.stdout.read(SIZE.size)
        height, width = SIZE.unpack(size) if len(size) == SIZE.size else (0, 0)
        if not 0 < height * width <= MAX_PIXELS:
            raise undecodable
        shape = (height, width) if channels == 1 else (height, width, channels)
        pixels = self._child.stdout.read(height * width * channels)
        if len(pixels) != height * width * channels:
            raise undecodable
        return np.frombuffer(pixels, np.uint8).reshape(shape)


def _read_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadMedia(f"{path} cannot be read ({error.strerror})", _HINT) from error
    if not data.startswith(_SIGNATURE):
        raise BadMedia(f"{path} is not a PNG image", _HINT)
    if len(data) > MAX_BYTES:
        raise BadMedia(f"{path} is larger than {MAX_BYTES >> 20} MiB", _HINT)
    return data
