"""Where a renderer's square face lies: 468 mesh points to 68, to the face box, to the square around it.

The rules are MuseTalk's (its preprocessing and blending modules, commit 0a89dec), so that boxes made here fit its
weights; where its crop fails or distorts (a box that leaves the frame), this one does not.
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
"""Mesh point of each of the 68 iBUG points, in their order: the mapping in common use."""

_NOSE_MIDDLE = 29
"""iBUG point at the vertical middle of the face box: above it nothing is drawn."""


def ibug68(mesh: Points) -> Points:
    """[468, 2] mesh points to the [68, 2] iBUG points."""
    return np.asarray(mesh[IBUG_68], np.float32)


def face_box(points: Points, frame_height: int, *, bbox_shift: int = 0, extra_margin: int = 10) -> Box | None:
    """The box of a face given by its [68, 2] iBUG points in frame pixels; None for a face without extent.

    `bbox_shift` moves the middle down by so many pixels, `extra_margin` is room under the chin, cut at the frame's
    lower edge. As in the reference the points are cut to integers and the middle takes part in the lowest point.
    Unlike it, a box that leaves the frame on the left is kept: `crop_face` can take it.
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
    """`face_box` without its cuts to whole pixels, so that it moves as smoothly as the points do."""
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    middle = y[_NOSE_MIDDLE] = y[_NOSE_MIDDLE] + bbox_shift
    top, bottom = max(0.0, 2 * middle - y.max()), min(y.max() + extra_margin, float(frame_height))
    if bottom <= top or x.max() <= x.min():
        return None
    return FloatBox(float(x.min()), float(top), float(x.max()), float(bottom))


def crop_box(face: Box) -> Box:
    """The square that masks and blending work on: the face box, 1.5 times its longer side. May leave the frame."""
    x, y = (face.x1 + face.x2) // 2, (face.y1 + face.y2) // 2
    half = int(max(face.width, face.height) // 2 * 1.5)
    return Box(x - half, y - half, x + half, y + half)


def crop_face(frame: Image, box: Box | FloatBox) -> Image:
    """The box stretched to [256, 256, 3]. What lies outside the frame repeats its edge, so nothing is distorted.

    Raises ValueError for an empty box.
    """
    if isinstance(box, FloatBox):
        return sample_box(frame, box, cv2.INTER_LANCZOS4)
    if box.empty:
        raise ValueError(f"nothing to crop in {box}")
    inside = box.clipped(frame.shape[1], frame.shape[0])
    part = frame[box.y1 : box.y2, box.x1 : box.x2] if inside == box else _replicated(frame, box)
    return np.asarray(cv2.resize(part, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def sample_box(frame: Image, place: FloatBox, interpolation: int, side: int = FACE_SIZE) -> Image:
    """The place, to parts of a pixel, as [side, side, 3]; outside the frame its edge goes on."""
    columns, rows = side / place.width, side / place.height
    # Centres of pixels lie at halves of a box's coordinates.
    matrix = np.array(
        [
            [columns, 0, (0.5 - place.x1) * columns - 0.5],
            [0, rows, (0.5 - place.y1) * rows - 0.5],
        ]
    )
    found = cv2.warpAffine(frame, matrix, (side, side), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


def _replicated(frame: Image, box: Box) -> Image:
    rows = _indices(box.y1, box.y2, frame.shape[0])
    columns = _indices(box.x1, box.x2, frame.shape[1])
    return frame[rows[:, None], columns]


def _indices(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    return np.clip(np.arange(start, stop), 0, length - 1)
