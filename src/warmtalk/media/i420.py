"""Frames in the format of encoders: planes Y, U and V, limited range, and the BT.709 matrix.

Players expect this matrix at these sizes.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image

I420 = npt.NDArray[np.uint8]
"""[H * 3 / 2, W] uint8, H and W even: H rows of Y, then U and V of half the size each, one after the other."""
Planes = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Y [H, W], U and V [H / 2, W / 2]."""

_BLUE, _RED = 0.0722, 0.2126
"""Shares of luma, ITU-R BT.709; green has the rest."""
_LUMA = np.array([_BLUE, 1 - _BLUE - _RED, _RED])
_FROM_BGR = [
    np.append(axis * span / 255, offset).astype(np.float32)[None]
    for axis, span, offset in (
        (_LUMA, 219, 16),
        ((np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _BLUE)), 224, 128),
        ((np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _RED)), 224, 128),
    )
]
"""[1, 4] each: a row of the matrix and its offset, for Y, U and V."""


def to_i420(image: Image) -> I420:
    """Converts [H, W, 3] BGR. An odd last row or column is repeated, since H.264 has even sizes."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        height, width = image.shape[:2]
    frame = np.empty((height * 3 // 2, width), np.uint8)
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    for plane, source, row in zip(planes(frame), (image, half, half), _FROM_BGR, strict=True):
        cv2.transform(source, row, dst=plane)
    return frame


def planes(frame: I420) -> Planes:
    """Returns views of the three planes."""
    rows, width = frame.shape
    height = rows * 2 // 3
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    return frame[:height], chroma[0], chroma[1]


def paste_patch(frame: I420, box: Box, pixels: Image, alpha: float = 1.0) -> None:
    """Pastes `pixels`, [box.height, box.width, 3] BGR, into the box of the frame, in place.

    `alpha`: 1 replaces the frame's pixels, less blends with them. Where an edge of the box cuts a pair of pixels, the
    colour of the pair is the patch's.
    """
    top, left, bottom, right = box.y1 % 2, box.x1 % 2, box.y2 % 2, box.x2 % 2
    even = np.asarray(cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)
    patch = planes(to_i420(even))
    luma, *chroma = planes(frame)
    inner = patch[0][top : top + box.height, left : left + box.width]
    _blend(luma[box.y1 : box.y2, box.x1 : box.x2], inner, alpha)
    rows, columns = slice(box.y1 // 2, (box.y2 + 1) // 2), slice(box.x1 // 2, (box.x2 + 1) // 2)
    for plane, source in zip(chroma, patch[1:], strict=True):
        _blend(plane[rows, columns], source, alpha)


def _blend(target: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], alpha: float) -> None:
    target[:] = source if alpha >= 1 else cv2.addWeighted(source, alpha, target, 1 - alpha, 0)
