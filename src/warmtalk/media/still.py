"""An untrusted photo as one BGR frame."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media.ffmpeg import sniff_file

STILL_KINDS = ("jpg", "png")
MAX_PIXELS = 100_000_000
"""Of a photo; a decoded one takes 3 bytes each."""
MAX_SIDE = 1920
"""Larger photos are scaled down: the frames become a video."""
_END = {"jpg": b"\xff\xd9", "png": b"IEND\xaeB`\x82"}
_END_WITHIN = 1 << 16
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_still(path: Path, *, name: str = "") -> Image:
    """The photo upright (EXIF), [H, W, 3] uint8 BGR, sides even and at most MAX_SIDE.

    `name` stands for the file in messages. Raises BadMedia when it is missing, no jpg or png, broken, cut off or too
    large; the size is read before anything is decoded.
    """
    name = name or path.name
    kind = sniff_file(path)
    if kind not in STILL_KINDS:
        raise BadMedia(f"{name} is not a photo that can be read", "Use jpg or png")
    data = path.read_bytes()
    width, height = _size(data, kind)
    if width * height > MAX_PIXELS:
        raise BadMedia(f"{name} is too large: {width} x {height}", f"Scale it down to {MAX_SIDE} pixels a side")
    if _END[kind] not in data[-_END_WITHIN:]:
        raise BadMedia(f"{name} is cut off: its end is missing", "Upload it again, or export it once more")
    image = _decoded(data) if width and height else None
    if image is None or min(image.shape[:2]) < 2:
        raise BadMedia(f"{name} cannot be decoded", "Save it again as jpg or png")
    return _fitted(image)


def _decoded(data: bytes) -> Image | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _fitted(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = MAX_SIDE / max(width, height)
    if scale < 1:
        width, height = max(round(width * scale), 2), max(round(height * scale), 2)
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(image[: height // 2 * 2, : width // 2 * 2])


def _size(data: bytes, kind: str) -> tuple[int, int]:
    """Width and height that the header promises; zeros when it cannot be read."""
    try:
        if kind == "png":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        return _jpeg_size(data)
    except (struct.error, IndexError):
        return 0, 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        padding = marker == 0xFF
        place += 1 if padding else 2 + struct.unpack_from(">H", data, place + 2)[0]
    return 0, 0
