"""Face detection by BlazeFace full range: boxes and six key points of the faces in one window of an image.

Anchors, box decoding and weighted non-maximum suppression follow MediaPipe's graph face_detection_full_range.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image
from warmtalk.models.faces.network_files import forward, open_network, sigmoid

SIDE = 192
"""Width and height of the network's input, pixels."""
STRIDE = 4
"""Pixels of the input per anchor: one anchor per cell of a 48 x 48 grid."""
SAME_FACE_IOU = 0.3
STRONG_SCORE, WEAK_SCORE = 0.5, 0.2
"""Minimum score of a detection that counts by itself, and of a detection that needs further evidence."""

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One detected face."""

    score: float
    """0..1"""
    points: _Array
    """[4 or 8, 2] image pixels: box low corner, box high corner, right eye, left eye, then nose, mouth and ears."""

    @property
    def strong(self) -> bool:
        """True when the score alone suffices."""
        return self.score >= STRONG_SCORE


class BlazeFace:
    """The detection network. Not thread-safe: cv2.dnn networks reuse their buffers."""

    def __init__(self) -> None:
        """Raises NotReady when the network file is missing or damaged."""
        self._net = open_network("face_detection_full_range.tflite")
        cells = SIDE // STRIDE
        y, x = np.mgrid[:cells, :cells]
        self._anchors = ((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * STRIDE).astype(np.float32)

    def __call__(self, image: Image, window: Box, *, quarter_turns: int = 0) -> list[Detection]:
        """Returns the faces inside `window`, the best first: the strong detections, or without any, the weak ones.

        The window may leave the image; the network sees black there. `quarter_turns` rotates the window clockwise
        before the detection, for a head that lies on its side.
        """
        square, scale, offset = _letterbox(image, window)
        square = np.ascontiguousarray(np.rot90(square, -quarter_turns))
        outputs = forward(self._net, cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5,) * 3, swapRB=True))
        scores = sigmoid(next(one for one in outputs if one.shape[-1] == 1).ravel())
        candidates = np.flatnonzero(scores >= (STRONG_SCORE if scores.max() >= STRONG_SCORE else WEAK_SCORE))
        if not candidates.size:
            return []
        raw = next(one for one in outputs if one.shape[-1] == 16).reshape(-1, 8, 2)[candidates]
        merged = _suppress(_decode(raw, self._anchors[candidates]), scores[candidates])
        return [Detection(score, (_rotate_back(points, quarter_turns) - offset) / scale) for score, points in merged]


def box_overlap(a: _Array, b: _Array) -> float:
    """Returns the intersection over union of two boxes, each [2, 2] low and high corner."""
    common = float(np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None)))
    union = float(np.prod(a[1] - a[0]) + np.prod(b[1] - b[0])) - common
    return common / union if union > 0 else 0.0


def _letterbox(image: Image, window: Box) -> tuple[Image, float, _Array]:
    """Returns the window centred in a black square, and scale and offset: square = image * scale + offset."""
    part = window.clipped(image.shape[1], image.shape[0])
    scale = SIDE / max(window.width, window.height, 1)
    square: Image = np.zeros((SIDE, SIDE, 3), np.uint8)
    left = (SIDE - round(window.width * scale)) // 2 + round((part.x1 - window.x1) * scale)
    top = (SIDE - round(window.height * scale)) // 2 + round((part.y1 - window.y1) * scale)
    width = min(max(round(part.width * scale), 1), SIDE - left)
    height = min(max(round(part.height * scale), 1), SIDE - top)
    if not part.empty:
        pixels = image[part.y1 : part.y2, part.x1 : part.x2]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        square[top : top + height, left : left + width] = cv2.resize(pixels, (width, height), interpolation=method)
    return square, scale, np.array([left - part.x1 * scale, top - part.y1 * scale], np.float32)


def _rotate_back(points: _Array, quarter_turns: int) -> _Array:
    """Returns box corners and key points of the clockwise rotated square in coordinates of the original square."""
    for _ in range(quarter_turns):
        points = np.stack([points[:, 1], SIDE - points[:, 0]], 1)
    corners = np.stack([points[:2].min(0), points[:2].max(0)])
    return np.concatenate([corners, points[2:]])


def _decode(raw: _Array, anchors: _Array) -> _Array:
    """Converts [n, 8, 2] network values (centre, size, six key points) to corners and key points in input pixels."""
    centre, half = raw[:, 0] + anchors, raw[:, 1] / 2
    corners = np.stack([centre - half, centre + half], 1)
    return np.concatenate([corners, raw[:, 2:] + anchors[:, None]], 1)


def _suppress(points: _Array, scores: _Array) -> list[tuple[float, _Array]]:
    """Applies weighted non-maximum suppression.

    Each face is the score-weighted mean of all boxes that overlap the face's best box.
    """
    merged = []
    remaining = np.argsort(-scores)
    while remaining.size:
        best = remaining[0]
        same = np.array([box_overlap(points[best, :2], points[i, :2]) > SAME_FACE_IOU for i in remaining])
        same[0] = True
        members = remaining[same]
        merged.append((float(scores[best]), np.average(points[members], axis=0, weights=scores[members])))
        remaining = remaining[~same]
    return merged
