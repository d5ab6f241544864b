"""Writes the frame segments of a bundle with an ffmpeg child: small files, visually equal to the source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import ffmpeg
import numpy as np
from ffmpeg.nodes import OutputStream

from warmtalk.core.types import Image
from warmtalk.media.ffmpeg_command import STDIN
from warmtalk.media.ffmpeg_process import FfmpegProcess

CRF = 15
"""x264's quality, 0 to 51; lower is better."""
BITS_PER_PIXEL = 0.45
"""Bitrate ceiling for noisy videos: 10.4 Mbit/s at 720p and 25 fps."""
_BUFFER_S = 0.25
"""Size of the rate control buffer. Every segment starts with a full buffer."""


class SegmentWriter:
    """Writes one segment file: H.264, yuv420p, no B-frames, every frame kept. A context manager for one thread.

    The file gets its final name when the last frame is written. Leaving by an exception leaves no file.
    Raises StorageFull when the volume is full, WarmtalkError when ffmpeg fails for another reason.
    """

    def __init__(self, path: Path, width: int, height: int, rate: Fraction) -> None:
        """Starts the encoder. `width` and `height` are even."""
        self._path = path
        self._partial = path.with_name(path.name + ".tmp")
        self._child = FfmpegProcess(_segment_output(self._partial, width, height, rate), stdin=True)

    def __enter__(self) -> SegmentWriter:
        return self

    def write_frame(self, frame: Image) -> None:
        """Encodes [height, width, 3] uint8 BGR. Blocks while the encoder is busy."""
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


def _segment_output(path: Path, width: int, height: int, rate: Fraction) -> OutputStream:
    max_rate = int(BITS_PER_PIXEL * width * height * rate)
    frames = ffmpeg.input(STDIN, f="rawvideo", pix_fmt="yuv420p", s=f"{width}x{height}", r=rate)
    return frames.output(
        str(path),
        f="mp4",
        vcodec="libx264",
        preset="veryfast",
        crf=CRF,
        bf=0,
        maxrate=max_rate,
        bufsize=int(max_rate * _BUFFER_S),
        pix_fmt="yuv420p",
        # OpenCV converts with the BT.601 matrix, and the reader of the segments converts back with BT.601.
        colorspace="smpte170m",
        color_range="tv",
    )
