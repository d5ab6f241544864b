"""Decodes the photo on stdin in a child of its own: its size and its pixels to stdout, or what is wrong as status.

Started by media/photo_decode.py within limits, by its path: knows cv2 and numpy alone. stdin is the file itself.

    stdout      8 bytes: height and width, uint32 little-endian; then [height, width, 3] uint8 BGR, upright
    status 3    more pixels than argv[1]; its size on stdout as above
    status 4    its end is missing
    status 5    it cannot be decoded
"""

from __future__ import annotations

import os
import re
import struct
import sys

TOO_LARGE, CUT_OFF, UNDECODABLE = 3, 4, 5
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG that begin a picture: its size follows."""
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Inside the coded pixels only these bytes begin a marker."""
_PNG_END = b"IEND\xaeB`\x82"


def main() -> None:
    most_pixels, most_side = int(sys.argv[1]), int(sys.argv[2])
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(most_pixels)
    data = sys.stdin.buffer.read()
    try:
        width, height, whole = _measure(data)
    except (struct.error, IndexError):
        sys.exit(CUT_OFF)
    if width * height > most_pixels:
        sys.stdout.buffer.write(struct.pack("<II", min(height, 1 << 31), min(width, 1 << 31)))
        sys.exit(TOO_LARGE)
    if not whole:
        sys.exit(CUT_OFF)
    _decode(data, most_side)


def _measure(data: bytes) -> tuple[int, int, bool]:
    """Width, height, and whether the end is there; (0, 0, True) leaves it to the decoder to say."""
    if data[:4] == b"RIFF":  # webp: the decoder checks the size before it decodes
        return 0, 0, len(data) >= struct.unpack_from("<I", data, 4)[0] + 8
    if data[:2] == b"\xff\xd8":
        return _measure_jpeg(data)
    width, height = struct.unpack_from(">II", data, 16)
    return width, height, _PNG_END in data[-(1 << 16) :]


def _measure_jpeg(data: bytes) -> tuple[int, int, bool]:
    """Goes from marker to marker, so that a thumbnail in the file, or a film behind it, is not taken for the photo."""
    place, width, height = 2, 0, 0
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == _END:
            return width, height, True
        if marker in _FRAMES and not width:
            height, width = struct.unpack_from(">HH", data, place + 5)
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
        if marker == _SCAN:
            found = _MARKER.search(data, place)
            if found is None:
                return width, height, False
            place = found.start()
    return width, height, True


def _decode(data: bytes, most_side: int) -> None:
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError):
        image = None
    if image is None or min(image.shape[:2]) < 2:
        sys.exit(UNDECODABLE)
    height, width = image.shape[:2]
    scale = most_side / max(width, height)
    if scale < 1:
        width, height = max(round(width * scale), 2), max(round(height * scale), 2)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    width, height = width // 2 * 2, height // 2 * 2
    sys.stdout.buffer.write(struct.pack("<II", height, width))
    sys.stdout.buffer.write(np.ascontiguousarray(image[:height, :width]).data)


if __name__ == "__main__":
    main()
