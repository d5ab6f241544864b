"""Geometry of faces: from 468 mesh points to 68 points, to the face box, to the square crop box.

The rules follow the preprocessing and blending modules of MuseTalk (commit 0a89dec), because its weights expect such
boxes. Unlike in MuseTalk, the crop of a box outside the frame neither fails nor distorts the face.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Points

# fmt: off
IBUG_68 = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw, 0 to 16
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows, 17 to 26
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose, 27 to 35
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes, 36 to 47
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips, 48 to 59
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips, 60 to 67
])
# fmt: on
"""Index of the mesh point for each of the 68 iBUG points, in iBUG order: the mapping in common use."""

_NOSE_MIDDLE = 29
"""iBUG point at the vertical middle of the face box. Renderers change the lower half only."""


def ibug68(mesh: Points) -> Points:
    """Returns the [68, 2] iBUG points of [468, 2] mesh points."""
    return np.asarray(mesh[IBUG_68], np.float32)


def face_box(points: Points, frame_height: int, *, bbox_shift: int = 0, extra_margin: int = 10) -> Box | None:
    """Returns the box of a face with [68, 2] iBUG points in frame pixels; None for a face without extent.

    `bbox_shift` moves the middle down by `bbox_shift` pixels. `extra_margin` is the room under the chin in pixels,
    limited by the lower edge of the frame. As in the reference, the points are truncated to integers, and the shifted
    middle counts for the lowest point. Unlike the reference, a box may leave the frame on the left: `crop_face`
    handles such boxes.
    """
    x, y = points.astype(np.int32).T.tolist()
    middle = y[_NOSE_MIDDLE] = y[_NOSE_MIDDLE] + bbox_shift
    top = max(0, middle - (max(y) - middle))
    bottom = min(max(y) + extra_margin, frame_height)
    if bottom <= top or max(x) <= min(x):
        return None
    return Box(min(x), top, max(x), bottom)


def float_face_box(
    points: Points, frame_height: int, *, bbox_shift: float = 0, extra_margin: float = 10
) -> FloatBox | None:
    """Returns `face_box` without truncation to whole pixels: the box moves as smoothly as the points."""
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    middle = y[_NOSE_MIDDLE] = y[_NOSE_MIDDLE] + bbox_shift
    top, bottom = max(0.0, 2 * middle - y.max()), min(y.max() + extra_margin, float(frame_height))
    if bottom <= top or x.max() <= x.min():
        return None
    return FloatBox(float(x.min()), float(top), float(x.max()), float(bottom))


def crop_box(face: Box) -> Box:
    """Returns the square of the mask, around the face box: 1.5 times the longer side. May leave the frame."""
    x, y = (face.x1 + face.x2) // 2, (face.y1 + face.y2) // 2
    half = int(max(face.width, face.height) // 2 * 1.5)
    return Box(x - half, y - half, x + half, y + half)


def crop_face(frame: Image, box: Box | FloatBox) -> Image:
    """Returns the content of the box, resized to [256, 256, 3]. Outside the frame the edge pixels are repeated.

    Raises ValueError for an empty box.
    """
    if isinstance(box, FloatBox):
        return sample_box(frame, box, cv2.INTER_LANCZOS4)
    if box.empty:
        raise ValueError(f"{box} is empty")
    inside = box.clipped(frame.shape[1], frame.shape[0])
    part = frame[box.y1 : box.y2, box.x1 : box.x2] if inside == box else _crop_replicated(frame, box)
    return np.asarray(cv2.resize(part, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def sample_box(frame: Image, box: FloatBox, interpolation: int, side: int = FACE_SIZE) -> Image:
    """Returns the content of a sub-pixel box as [side, side, 3]. Outside the frame the edge pixels are repeated."""
    columns, rows = side / box.width, side / box.height
    # Pixel centres have half-integer box coordinates.
    matrix = np.array(
        [
            [columns, 0, (0.5 - box.x1) * columns - 0.5],
            [0, rows, (0.5 - box.y1) * rows - 0.5],
        ]
    )
    sampled = cv2.warpAffine(frame, matrix, (side, side), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, np.uint8)


def _crop_replicated(frame: Image, box: Box) -> Image:
    rows = _indices(box.y1, box.y2, frame.shape[0])
    columns = _indices(box.x1, box.x2, frame.shape[1])
    return frame[rows[:, None], columns]


def _indices(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    return np.clip(np.arange(start, stop), 0, length - 1)
