"""Decodes one PNG after the other in a child of its own, for media/pictures.py; knows cv2 and numpy alone.

stdin       of each picture: uint32 length of its file and uint8 channels, 1 or 3, little-endian; then the file
stdout      of each: uint32 height and width, then [height, width] or [height, width, 3] uint8 (BGR); both 0 when it
            cannot be decoded or has more pixels than argv[1]
"""

from __future__ import annotations

import os
import struct
import sys

HEAD, SIZE = struct.Struct("<IB"), struct.Struct("<II")


def main() -> None:
    most_pixels = int(sys.argv[1])
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(most_pixels)
    import cv2
    import numpy as np

    while len(head := sys.stdin.buffer.read(HEAD.size)) == HEAD.size:
        length, channels = HEAD.unpack(head)
        data = sys.stdin.buffer.read(length)
        mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
        except (cv2.error, MemoryError):
            image = None
        if image is None or image.shape[0] * image.shape[1] > most_pixels:
            sys.stdout.buffer.write(SIZE.pack(0, 0))
        else:
            sys.stdout.buffer.write(SIZE.pack(*image.shape[:2]))
            sys.stdout.buffer.write(np.ascontiguousarray(image).data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
