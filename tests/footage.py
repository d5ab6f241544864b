"""Films and photos made for tests: a photograph that is panned over, so that its face moves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.types import Image
from warmtalk.media.file_types import find_ffmpeg
from warmtalk.sample_photo import read_sample_photo

WIDTH, HEIGHT = 192, 160


def portrait() -> Image:
    """512 x 512 BGR; one face, 95 pixels wide, around (222, 130)."""
    return read_sample_photo()


def panned(frames: int, *, still: bool = False) -> list[Image]:
    """WIDTH x HEIGHT frames around the face, moving a pixel a frame to and fro."""
    image = portrait()
    steps = [0 if still else abs(i % 40 - 20) for i in range(frames)]
    return [image[40 : 40 + HEIGHT, 115 + x : 115 + x + WIDTH].copy() for x in steps]


def grey(frames: int) -> list[Image]:
    return [np.full((HEIGHT, WIDTH, 3), 110, np.uint8) for _ in range(frames)]


def film(path: Path, images: list[Image], *, fps: str = "25", options: tuple[str, ...] = ()) -> Path:
    """Any container that ffmpeg knows by the path's ending; H.264 unless `options` say otherwise."""
    height, width = images[0].shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", fps, "-i", "pipe:0"]
    run([*source, *(options or ("-pix_fmt", "yuv420p")), str(path)], b"".join(image.tobytes() for image in images))
    return path


def run(args: list[str], fed: bytes = b"") -> None:
    """ffmpeg with these arguments, which must go well."""
    subprocess.run([find_ffmpeg(), "-loglevel", "error", "-y", *args], input=fed, check=True)


def photo(path: Path, image: Image) -> Path:
    assert cv2.imwrite(str(path), image)
    return path
