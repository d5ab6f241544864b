"""Videos and photos for tests. A window pans over a portrait, so the face moves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.types import Image
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.sample_photo import read_sample_photo

WIDTH, HEIGHT = 192, 160


def portrait() -> Image:
    """Returns 512 x 512 BGR with one face, 95 pixels wide, around (222, 130)."""
    return read_sample_photo()


def panned_frames(frames: int, *, still: bool = False) -> list[Image]:
    """Returns WIDTH x HEIGHT frames around the face, which moves one pixel per frame to and fro, or not at all."""
    image = portrait()
    steps = [0 if still else abs(i % 40 - 20) for i in range(frames)]
    return [image[40 : 40 + HEIGHT, 115 + x : 115 + x + WIDTH].copy() for x in steps]


def grey_frames(frames: int) -> list[Image]:
    """Returns WIDTH x HEIGHT frames without a face."""
    return [np.full((HEIGHT, WIDTH, 3), 110, np.uint8) for _ in range(frames)]


def write_video(path: Path, images: list[Image], *, fps: str = "25", options: tuple[str, ...] = ()) -> Path:
    """Writes H.264, or the codec of `options`, in the container named by the path's suffix.

    The decoded pixels differ between versions of ffmpeg. Use only where the face is far from every threshold: whole
    and in the middle of the frame the detector's score is 0.8 and more, where 0.5 suffices.
    """
    height, width = images[0].shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", fps, "-i", "pipe:0"]
    output = [*(options or ("-pix_fmt", "yuv420p")), str(path)]
    run_ffmpeg([*source, *output], b"".join(image.tobytes() for image in images))
    return path


def write_lossless_video(path: Path, images: list[Image], *, fps: str = "25") -> Path:
    """Writes FFV1 in RGB; the suffix should be .mkv. Every version of ffmpeg decodes exactly `images`."""
    return write_video(path, images, fps=fps, options=("-c:v", "ffv1", "-pix_fmt", "bgr0"))


def run_ffmpeg(args: list[str], stdin: bytes = b"") -> None:
    """Runs ffmpeg with these arguments. Raises CalledProcessError when ffmpeg fails."""
    subprocess.run([find_ffmpeg(), "-loglevel", "error", "-y", *args], input=stdin, check=True)


def write_photo(path: Path, image: Image) -> Path:
    """Writes a photo in the format named by the path's suffix."""
    assert cv2.imwrite(str(path), image)
    return path
