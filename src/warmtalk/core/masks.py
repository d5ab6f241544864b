"""Blend masks over the crop box: the part of the generated face to use, with a soft edge.

`assemble` applies the rule of MuseTalk to any mask. `mesh_mask` makes the mask of the "jaw" mode of MuseTalk (cheeks,
jaw and lips, without the nose) from the face mesh, without a parsing network.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import sample_box
from warmtalk.core.types import Box, FloatBox, Image, Mask, Points

REALTIME_BLUR = 0.1
OFFLINE_BLUR = 0.05
"""Size of the blur kernel relative to the side of the crop box, in the two programs of the reference."""

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
"""Outward scale of the face oval. The mesh follows the jaw bone; a beard or a double chin reaches beyond the bone and
must move with the jaw."""
_SIDE_FADE = 0.08
_CHIN_FADE = 0.05
"""Width of the fade at the sides and at the lower edge, relative to the face box. The generated face ends at the box,
where the feather alone would still be at one half: a visible line."""
_SUBPIXEL_BITS = 6
"""Fractional bits of polygon corners."""
_COARSE = 96
"""Side of the reduced image for measuring the roughness along the edge of the mask."""
_ROUGH, _ROUGH_SIGMA = (4.0, 12.0), 3.0
"""Gradient in grey levels per coarse pixel: skin is below [0], the edge of a beard or a shadow above [1]. Sigma of the
average, in coarse pixels."""
_BESIDE_NOSE = 1 - np.exp(-(((np.arange(_COARSE) + 0.5) / _COARSE - 0.5) ** 4) / 0.12**4)
"""[side] weight that ignores the contours of the nose, close to the upper lip."""
_SOFT_FEATHER = 0.04
"""Sigma of the wide feather, relative to the side of the crop box. A larger value would reach the lips."""


def assemble(mask: Mask, face: Box, crop: Box, *, blur: float = REALTIME_BLUR) -> Mask:
    """Returns the feathered [S, S] mask of a hard mask over the crop box: limited to the lower half, inside the face
    box.

    The feather extends slightly beyond both limits, as in the reference.
    """
    side = crop.width
    limited = np.zeros_like(mask)
    top = max(face.y1 - crop.y1, int(side * 0.5))
    rows, columns = slice(top, face.y2 - crop.y1), slice(max(face.x1 - crop.x1, 0), face.x2 - crop.x1)
    limited[rows, columns] = mask[rows, columns]
    return _feather(limited, blur)


def mesh_mask(mesh: Points, face: Box | FloatBox, crop: Box, *, blur: float = REALTIME_BLUR) -> Mask:
    """Returns the [S, S] blend mask of a face with [468, 2] mesh points in frame pixels.

    Outlines and limits have sub-pixel precision: the mask of a slowly moving face moves slowly.
    """
    points = mesh - np.array([crop.x1, crop.y1], np.float32)
    mask = np.zeros((crop.height, crop.width), np.uint8)
    oval = points[_FACE_OVAL]
    centre = oval.mean(0)
    _fill_polygon(mask, centre + (oval - centre) * _OUTWARD, 255)
    _fill_polygon(mask, points[_NOSE], 0)
    left, top, right, bottom = face.x1 - crop.x1, face.y1 - crop.y1, face.x2 - crop.x1, face.y2 - crop.y1
    lower = _coverage(crop.height, (top + bottom) / 2, bottom)[:, None] * _coverage(crop.width, left, right)
    feathered = _feather(np.asarray(np.rint(mask * lower), np.uint8), blur)
    fade = np.minimum(
        _ramp(crop.height, -crop.height, bottom, face.height * _CHIN_FADE)[:, None],
        _ramp(crop.width, left, right, face.width * _SIDE_FADE),
    )
    return np.asarray(np.rint(feathered * fade), np.uint8)


def soften_edges(mask: Mask, frame: Image, crop: Box) -> Mask:
    """Returns the [S, S] mask with a wider inward feather where the edge runs through a beard or along a shadow.

    At such edges a generated face differs from its frame in more than colour, and a short feather makes the difference
    visible. The mask grows nowhere. The roughness of the frame is measured at low resolution, for stability from frame
    to frame.
    """
    grey = cv2.cvtColor(sample_box(frame, FloatBox(*map(float, crop.as_tuple())), cv2.INTER_LINEAR), cv2.COLOR_BGR2GRAY)
    smooth = cv2.GaussianBlur(_reduce(np.asarray(grey, np.uint8)), (0, 0), 0.8)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) / 8
    coarse = _reduce(mask)
    edge = ((coarse > 12) & (coarse < 243)).astype(np.float32)
    slope_sum, weight = (cv2.GaussianBlur(values, (0, 0), _ROUGH_SIGMA) for values in (slope * edge, edge))
    rough = np.clip((slope_sum / (weight + 1e-3) - _ROUGH[0]) / (_ROUGH[1] - _ROUGH[0]), 0, 1)
    rough[: round(0.72 * _COARSE)] *= _BESIDE_NOSE
    wide = cv2.GaussianBlur(coarse, (0, 0), _SOFT_FEATHER * _COARSE)
    gain = 1 - rough * (1 - np.minimum(wide / np.maximum(coarse, 1), 1))
    fine = cv2.resize(gain.astype(np.float32), (crop.width, crop.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(mask * fine), np.uint8)


def _reduce(image: Mask) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(image, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA), np.float32)


def _feather(mask: Mask, blur: float) -> Mask:
    kernel = int(blur * len(mask) // 2 * 2) + 1
    return np.asarray(cv2.GaussianBlur(mask, (kernel, kernel), 0), np.uint8)


def _coverage(length: int, start: float, stop: float) -> npt.NDArray[np.float32]:
    """Returns [length]: the share of each pixel between start and stop."""
    pixel = np.arange(length)
    return np.asarray(np.clip(np.minimum(pixel + 1, stop) - np.maximum(pixel, start), 0, 1), np.float32)


def _fill_polygon(mask: Mask, polygon: Points, value: int) -> None:
    corners = np.rint(polygon * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [corners], value, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def _ramp(length: int, start: float, stop: float, width: float) -> npt.NDArray[np.float32]:
    """Returns [length]: 1 between start and stop, with a smooth fall to 0 over `width` pixels inside each end."""
    center = np.arange(length) + 0.5
    distance = np.clip(np.minimum(center - start, stop - center) / max(width, 1.0), 0, 1)
    return np.asarray(distance * distance * (3 - 2 * distance), np.float32)
