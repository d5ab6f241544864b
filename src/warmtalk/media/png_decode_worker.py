"""Decodes one PNG after the other in a child, for media/png_decode.py. Imports cv2 and numpy alone.

stdin       for each image: uint32 length of the file and uint8 channels, 1 or 3, little-endian; then the file
stdout      for each image: uint32 height and width, then [height, width] or [height, width, 3] uint8 (BGR); both
            sizes are 0 when the file cannot be decoded or has more pixels than argv[1]
"""

from __future__ import annotations

import os
import struct
import sys

REQUEST, SIZE = struct.Struct("<IB"), struct.Struct("<II")


def main() -> None:
    max_pixels = int(sys.argv[1])
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(max_pixels)
    import cv2
    import numpy as np

    while len(request := sys.stdin.buffer.read(REQUEST.size)) == REQUEST.size:
        length, channels = REQUEST.unpack(request)
        data = sys.stdin.buffer.read(length)
        mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
        except (cv2.error, MemoryError):
            image = None
        if image is None or image.shape[0] * image.shape[1] > max_pixels:
            sys.stdout.buffer.write(SIZE.pack(0, 0))
        else:
            sys.stdout.buffer.write(SIZE.pack(*image.shape[:2]))
            sys.stdout.buffer.write(np.ascontiguousarray(image).data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
