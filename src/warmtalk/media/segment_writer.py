"""Frame segments of a bundle, through an ffmpeg child: small, and as good as the source to the eye."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.types import Image
from warmtalk.media.ffmpeg_process import FfmpegProcess

CRF = 15
BITS_PER_PIXEL = 0.45
"""Ceiling for noisy footage: 10.4 Mbit/s at 720p and 25 fps."""
_BUFFER_S = 0.25
"""Every segment starts with this much credit."""


class SegmentWriter:
    """Writes one segment file: H.264, yuv420p, no B-frames, every frame kept. Use as a context manager, one thread.

    The file appears under its name only when all of it is written; leaving by an exception leaves nothing.
    Raises StorageFull when the volume has no room, WarmtalkError when ffmpeg fails otherwise.
    """

    def __init__(self, path: Path, width: int, height: int, rate: Fraction) -> None:
        """`width` and `height` are even."""
        self._path = path
        self._partial = path.with_name(path.name + ".tmp")
        self._child = FfmpegProcess(_arguments(self._partial, width, height, rate), stdin=True)

    def __enter__(self) -> SegmentWriter:
        return self

    def write_frame(self, frame: Image) -> None:
        """[height, width, 3] uint8 BGR. Blocks while the encoder is busy."""
        try:
            self._child.stdin.write(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)).data)
        except BrokenPipeError:
            self._finish()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
                self._partial.replace(self._path)
        finally:
            self._child.kill()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._child.close_stdin()
        self._child.check_exit(f"writing {self._path.name}")


def _arguments(path: Path, width: int, height: int, rate: Fraction) -> list[str]:
    ceiling = int(BITS_PER_PIXEL * width * height * rate)
    return [
        *("-y", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-bf", "0"),
        *("-maxrate", str(ceiling), "-bufsize", str(int(ceiling * _BUFFER_S)), "-pix_fmt", "yuv420p"),
        # The picture was made with OpenCV's BT.601 matrix, and is read back with it.
        *("-colorspace", "smpte170m", "-color_range", "tv", "-f", "mp4", str(path)),
    ]
