"""Blend masks over the crop box: which part of the generated face is taken, and how softly.

`assemble` is MuseTalk's rule for any mask; `mesh_mask` draws the mask of its "jaw" mode (cheeks, jaw and lips,
without the nose) from the face mesh, so that no parsing network is needed.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Mask, Place, Points

REALTIME_BLUR = 0.1
OFFLINE_BLUR = 0.05
"""Kernel of the feather / side of the crop box, in the reference's two programs."""

# fmt: off
_FACE_OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])
_NOSE = np.array([
    168, 193, 122, 196, 174, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 399, 419, 351, 417,
])
# fmt: on
_OUTWARD = 1.06
"""The mesh runs along the jaw bone; beard and double chin reach beyond it and must move along, not be cut."""
_SIDE_FADE = 0.08
_CHIN_FADE = 0.05
"""Part of the face box over which the mask fades to nothing at its sides and its lower edge. There the generated
face ends, and the feather alone would leave half of it: a visible line."""
_SUBPIXEL_BITS = 6


def assemble(mask: Mask, face: Box, crop: Box, *, blur: float = REALTIME_BLUR) -> Mask:
    """[S, S] hard mask over the crop box to the feathered one: only inside the face box, only its lower half.

    The feather leaks a little over both limits, as in the reference.
    """
    side = crop.width
    limited = np.zeros_like(mask)
    top = max(face.y1 - crop.y1, int(side * 0.5))
    rows, columns = slice(top, face.y2 - crop.y1), slice(max(face.x1 - crop.x1, 0), face.x2 - crop.x1)
    limited[rows, columns] = mask[rows, columns]
    return _feathered(limited, blur)


def mesh_mask(mesh: Points, face: Box | Place, crop: Box, *, blur: float = REALTIME_BLUR) -> Mask:
    """[S, S] blend mask of a face by its [468, 2] mesh points in frame pixels.

    Outlines and limits are drawn to parts of a pixel, so a slowly moving face has a slowly moving mask.
    """
    points = mesh - np.array([crop.x1, crop.y1], np.float32)
    mask = np.zeros((crop.height, crop.width), np.uint8)
    oval = points[_FACE_OVAL]
    centre = oval.mean(0)
    _fill(mask, centre + (oval - centre) * _OUTWARD, 255)
    _fill(mask, points[_NOSE], 0)
    left, top, right, bottom = face.x1 - crop.x1, face.y1 - crop.y1, face.x2 - crop.x1, face.y2 - crop.y1
    lower = _cover(crop.height, (top + bottom) / 2, bottom)[:, None] * _cover(crop.width, left, right)
    feathered = _feathered(np.asarray(np.rint(mask * lower), np.uint8), blur)
    fade = np.minimum(
        _ramp(crop.height, -crop.height, bottom, face.height * _CHIN_FADE)[:, None],
        _ramp(crop.width, left, right, face.width * _SIDE_FADE),
    )
    return np.asarray(np.rint(feathered * fade), np.uint8)


def _feathered(mask: Mask, blur: float) -> Mask:
    kernel = int(blur * len(mask) // 2 * 2) + 1
    return np.asarray(cv2.GaussianBlur(mask, (kernel, kernel), 0), np.uint8)


def _cover(length: int, start: float, stop: float) -> npt.NDArray[np.float32]:
    """[length] part of each pixel that lies between start and stop."""
    pixel = np.arange(length)
    return np.asarray(np.clip(np.minimum(pixel + 1, stop) - np.maximum(pixel, start), 0, 1), np.float32)


def _fill(mask: Mask, polygon: Points, value: int) -> None:
    corners = np.rint(polygon * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [corners], value, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def _ramp(length: int, start: float, stop: float, over: float) -> npt.NDArray[np.float32]:
    """[length] 1 between start and stop, falling smoothly to 0 within `over` pixels of each."""
    place = np.arange(length) + 0.5
    near = np.clip(np.minimum(place - start, stop - place) / max(over, 1.0), 0, 1)
    return np.asarray(near * near * (3 - 2 * near), np.float32)
