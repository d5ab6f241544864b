"""Decodes the photo on stdin in a child: writes its size and pixels to stdout, or reports a fault as exit status.

Started by media/photo_decode.py within limits, by path. Imports cv2 and numpy alone. stdin is the file itself.

    stdout      8 bytes: height and width, uint32 little-endian; then [height, width, 3] uint8 BGR, upright
    status 3    more pixels than argv[1]; the size on stdout as above
    status 4    the end of the file is missing
    status 5    the file cannot be decoded

argv[2] is the maximum side in pixels: larger photos are scaled down.
"""

from __future__ import annotations

import os
import re
import struct
import sys

TOO_LARGE, CUT_OFF, UNDECODABLE = 3, 4, 5
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame header, which holds the size."""
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Start of a marker inside the coded pixels."""
_PNG_END = b"IEND\xaeB`\x82"
_PNG_TAIL_BYTES = 1 << 16


def main() -> None:
    max_pixels, max_side = int(sys.argv[1]), int(sys.argv[2])
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(max_pixels)
    data = sys.stdin.buffer.read()
    try:
        width, height, complete = _measure(data)
    except (struct.error, IndexError):
        sys.exit(CUT_OFF)
    if width * height > max_pixels:
        sys.stdout.buffer.write(struct.pack("<II", min(height, 1 << 31), min(width, 1 << 31)))
        sys.exit(TOO_LARGE)
    if not complete:
        sys.exit(CUT_OFF)
    _decode(data, max_side)


def _measure(data: bytes) -> tuple[int, int, bool]:
    """Returns (width, height, complete); (0, 0, True) leaves the checks to the decoder."""
    if data[:4] == b"RIFF":  # webp: the decoder checks the size before decoding
        return 0, 0, len(data) >= struct.unpack_from("<I", data, 4)[0] + 8
    if data[:2] == b"\xff\xd8":
        return _measure_jpeg(data)
    width, height = struct.unpack_from(">II", data, 16)
    return width, height, _PNG_END in data[-_PNG_TAIL_BYTES:]


def _measure_jpeg(data: bytes) -> tuple[int, int, bool]:
    """Walks from marker to marker, so that an embedded thumbnail or a video behind the photo does not count."""
    offset, width, height = 2, 0, 0
    while data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:
            offset += 1
            continue
        if marker == _END:
            return width, height, True
        if marker in _FRAME_MARKERS and not width:
            height, width = struct.unpack_from(">HH", data, offset + 5)
        offset += 2 + struct.unpack_from(">H", data, offset + 2)[0]
        if marker == _SCAN:
            match = _MARKER.search(data, offset)
            if match is None:
                return width, height, False
            offset = match.start()
    return width, height, True


def _decode(data: bytes, max_side: int) -> None:
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError):
        image = None
    if image is None or min(image.shape[:2]) < 2:
        sys.exit(UNDECODABLE)
    height, width = image.shape[:2]
    scale = max_side / max(width, height)
    if scale < 1:
        width, height = max(round(width * scale), 2), max(round(height * scale), 2)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    width, height = width // 2 * 2, height // 2 * 2
    sys.stdout.buffer.write(struct.pack("<II", height, width))
    sys.stdout.buffer.write(np.ascontiguousarray(image[:height, :width]).data)


if __name__ == "__main__":
    main()
