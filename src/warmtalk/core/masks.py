"""Blend masks over the crop box: which part of the generated face is taken, and how softly.

`assemble` is MuseTalk's rule for any mask; `mesh_mask` draws the mask of its "jaw" mode (cheeks, jaw and lips,
without the nose) from the face mesh, so that no parsing network is needed.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import sample_box
from warmtalk.core.types import Box, FloatBox, Image, Mask, Points

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
_COARSE = 96
"""Side of the picture in which the roughness along the mask's edge is looked at."""
_ROUGH, _ROUGH_SIGMA = (4.0, 12.0), 3.0
"""Levels a coarse pixel: skin is below the first, a beard's or a shadow's edge above the second."""
_BESIDE_NOSE = 1 - np.exp(-(((np.arange(_COARSE) + 0.5) / _COARSE - 0.5) ** 4) / 0.12**4)
"""The nose's own lines are not meant: the upper lip is near."""
_SOFT_FEATHER = 0.04
"""Sigma of the wider feather, of the crop box's side. More reaches the lips."""


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


def mesh_mask(mesh: Points, face: Box | FloatBox, crop: Box, *, blur: float = REALTIME_BLUR) -> Mask:
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


def soften_edges(mask: Mask, frame: Image, crop: Box) -> Mask:
    """[S, S] mask over the crop box, its feather wider, inwards, where it runs through a beard or along a shadow.

    There a generated face differs from its frame in more than colour, and a short feather shows it. The mask grows
    nowhere. How rough the frame is, is looked at coarsely, so that it does not change from frame to frame.
    """
    grey = cv2.cvtColor(sample_box(frame, FloatBox(*map(float, crop.as_tuple())), cv2.INTER_LINEAR), cv2.COLOR_BGR2GRAY)
    picture = cv2.GaussianBlur(_coarse(np.asarray(grey, np.uint8)), (0, 0), 0.8)
    slope = np.hypot(cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)) / 8
    coarse = _coarse(mask)
    edge = ((coarse > 12) & (coarse < 243)).astype(np.float32)
    along = [cv2.GaussianBlur(values, (0, 0), _ROUGH_SIGMA) for values in (slope * edge, edge)]
    rough = np.clip((along[0] / (along[1] + 1e-3) - _ROUGH[0]) / (_ROUGH[1] - _ROUGH[0]), 0, 1)
    rough[: round(0.72 * _COARSE)] *= _BESIDE_NOSE
    wide = cv2.GaussianBlur(coarse, (0, 0), _SOFT_FEATHER * _COARSE)
    less = 1 - rough * (1 - np.minimum(wide / np.maximum(coarse, 1), 1))
    fine = cv2.resize(less.astype(np.float32), (crop.width, crop.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(mask * fine), np.uint8)


def _coarse(picture: Mask) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA), np.float32)


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
