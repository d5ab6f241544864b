"""Finds faces in an image: detection network and 468-point face mesh, embedded in the package, CPU only.

The detector proposes a face and the mesh confirms the face. The detector's score falls gradually with the part of a
face that the edge of the image cuts off, and differs between two encodings of the same image, so a threshold on the
score alone loses such faces by chance. Where no detection is strong, a face of the previous frame is followed by the
mesh, and a weak detection counts when the mesh is confident and agrees with the detector's key points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import ibug68
from warmtalk.core.ports import DetectedFace
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.blazeface import SAME_FACE_IOU, WEAK_SCORE, BlazeFace, Detection, box_overlap
from warmtalk.models.faces.face_mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER, FaceMesh

REGION_SCALE = 1.5
"""Side of the mesh's region relative to the face, as in the network's training."""
STEADY_SCALES = (1.25, 1.75)
"""The landmarks are the mean of the views at these scales. Measured: 7 to 14 % steadier lips than one view at 1.5, and
a correct lower lip on a broad smile, where one view puts the edge under the lip."""
MIN_MESH_SCORE = 0.5
CONFIRMED_MESH_SCORE = 0.8
"""Minimum mesh score of a face without a strong detection. Measured on 2,181 images without a face: the mesh gives no
weak detection more than 0.42."""
MAX_KEY_POINT_DISTANCE = 0.2
"""Maximum distance between a weak detection's eyes, nose and mouth and those of the mesh, relative to the face's size.
Measured on faces at the edge: 0.15 at the 99th percentile; on heads upside down, where the mesh is wrong but confident:
0.29 and more."""
MIN_TILE_SIDE = 256
"""Pixels. A face that fills a tenth of a tile is found; smaller tiles give false detections only."""
_PADDING = 0.25
"""Black border of the second look at the whole image, relative to the longer side: away from the border of the
network's input a cut face has a higher score."""
_FOREHEAD = 0.2
"""Height of the detector's box above the brows, relative to the height from brows to chin."""
_KEY_POINTS = ((33, 133), (362, 263), (1,), (13, 14))
"""Mesh points whose means are the detector's key points: right eye, left eye, nose and mouth."""
_MAX_WEAK = 4
"""Maximum number of weak detections that the mesh examines, the best first: bounds the time for an image without a
face."""

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """One face in an image."""

    score: float
    """0..1, the detector's."""
    box: Box
    """The detector's box, chin to forehead; may leave the image."""
    landmarks: Points
    """[468, 2] float32 mesh points in image pixels; may lie outside the image."""
    mesh_score: float
    """0..1, confidence of the mesh network that the region shows a face."""


class FaceFinder:
    """Not thread-safe (cv2.dnn networks reuse their buffers): make one per thread. Takes 15 MB and 30 ms to open.

    As a FaceDetector (core.ports) the finder returns the mesh's own 68 points. Raises NotReady when a network file is
    missing.
    """

    name = "mesh"

    def __init__(self) -> None:
        self._detector = BlazeFace()
        self._mesh = FaceMesh()

    def find(self, image: Image, *, near: Box | None = None, previous: Sequence[Points] = ()) -> list[FoundFace]:
        """Returns all faces of a [H, W, 3] uint8 BGR image, the best first; [] when there is none.

        `near` is a face's box in the previous frame: it speeds up the search for a small face, and the face with the
        largest overlap comes first. `previous` are [468, 2] landmarks of the faces of the previous frame: a face that
        the detector misses is followed from there.
        """
        height, width = image.shape[:2]
        detections = self._detector(image, Box(0, 0, width, height))
        faces = self._confirm_strong(image, detections)
        faces += self._follow(image, previous, faces)
        if not faces and not _any_strong(detections):
            faces = self._search(image, near, detections)
        faces = _unique(sorted(faces, key=lambda face: -face.score * face.mesh_score))
        if near is not None:
            faces.sort(key=lambda face: -box_overlap(_corners(face.box), _corners(near)))
        return faces

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """See core.ports.FaceDetector; the hints are not needed."""
        return [DetectedFace(face.score * face.mesh_score, ibug68(face.landmarks)) for face in self.find(image)]

    def fit(self, image: Image, points: Points, score: float) -> FoundFace | None:
        """Returns the mesh of a face from another detector's [68, 2] iBUG points; None when the mesh sees no face."""
        low, high = points.min(0), points.max(0)
        low = low - np.array([0, _FOREHEAD * (high[1] - low[1])], np.float32)
        eyes = [points[36:42].mean(0), points[42:48].mean(0)]
        return self._fit(image, Detection(score, np.asarray([low, high, *eyes], np.float32)), MIN_MESH_SCORE)

    def _search(self, image: Image, near: Box | None, weak: list[Detection]) -> list[FoundFace]:
        """Looks at further windows until one has a strong detection, and else returns the confirmed weak detections.

        The windows: the surroundings of `near`, the image rotated by quarter turns, and tiles of decreasing size. A
        face of 64 pixels in a 1080p frame is 6 pixels wide in the detector's input for the whole frame. `weak` are the
        weak detections in the whole image.
        """
        whole = Box(0, 0, image.shape[1], image.shape[0])
        if near is not None and not near.empty:
            detections = self._detector(image, _surroundings(near))
            if _any_strong(detections):
                return self._confirm_strong(image, detections)
            weak = weak + detections
        for turns in (1, 3):  # the head of a person who lies down, or a video that was recorded sideways
            detections = self._detector(image, whole, quarter_turns=turns)
            if _any_strong(detections):
                return self._confirm_strong(image, detections)
        side = min(whole.width, whole.height)
        while side >= MIN_TILE_SIDE:
            detections = [one for tile in _tiles(whole, side) for one in self._detector(image, tile)]
            if _any_strong(detections):
                return self._confirm_strong(image, detections)
            weak = weak + detections
            side //= 2
        if near is None:
            weak = weak + self._detector(image, _padded(whole))
        best = sorted(weak, key=lambda one: -one.score)[:_MAX_WEAK]
        return [face for one in best if (face := self._confirm_weak(image, one))]

    def _confirm_strong(self, image: Image, detections: list[Detection]) -> list[FoundFace]:
        return [face for one in detections if one.strong and (face := self._fit(image, one, MIN_MESH_SCORE))]

    def _confirm_weak(self, image: Image, detection: Detection) -> FoundFace | None:
        face = self._fit(image, detection, CONFIRMED_MESH_SCORE)
        if face is None:
            return None
        distances = [face.landmarks[list(one)].mean(0) for one in _KEY_POINTS] - detection.points[2:6]
        size = float(np.ptp(face.landmarks, axis=0).max())
        return face if np.linalg.norm(distances, axis=1).max() <= MAX_KEY_POINT_DISTANCE * size else None

    def _follow(self, image: Image, previous: Sequence[Points], faces: Sequence[FoundFace]) -> list[FoundFace]:
        """Returns the `previous` faces that the mesh confirms and `faces` does not contain."""
        known = [_extent(face.landmarks) for face in faces]
        followed: list[FoundFace] = []
        for mesh in previous:
            before = _extent(mesh)
            if all(box_overlap(before, one) <= SAME_FACE_IOU for one in known):
                face = self._fit(image, _proposal(mesh), CONFIRMED_MESH_SCORE)
                if face and box_overlap(before, _extent(face.landmarks)) > SAME_FACE_IOU:
                    followed.append(face)
        return followed

    def _fit(self, image: Image, detection: Detection, min_mesh_score: float) -> FoundFace | None:
        low, high = detection.points[:2]
        right_eye, left_eye = detection.points[2:4]
        side = REGION_SCALE * float((high - low).max())
        first, score = self._mesh(image, (low + high) / 2, side, left_eye - right_eye)
        if score < min_mesh_score:
            return None
        # The final views use the mesh's own region: the first region depends on the detector, whose box jitters.
        low, high = first.min(0), first.max(0)
        eye_axis = first[LEFT_EYE_OUTER] - first[RIGHT_EYE_OUTER]
        sides = [scale * float((high - low).max()) for scale in STEADY_SCALES]
        views = [self._mesh(image, (low + high) / 2, side, eye_axis) for side in sides]
        score = min(score for _, score in views)
        if score < min_mesh_score:
            return None
        landmarks = np.asarray(np.mean([points for points, _ in views], axis=0), np.float32)
        return FoundFace(detection.score, _box(detection.points), landmarks, score)


def _proposal(mesh: Points) -> Detection:
    """Returns the landmarks of a face of the previous frame in the form of a detection with the lowest score."""
    low, high = mesh.min(0), mesh.max(0)
    eyes = [mesh[RIGHT_EYE_OUTER], mesh[LEFT_EYE_OUTER]]
    return Detection(WEAK_SCORE, np.asarray([low, high, *eyes], np.float32))


def _any_strong(detections: Sequence[Detection]) -> bool:
    return any(one.strong for one in detections)


def _tiles(whole: Box, side: int) -> Iterator[Box]:
    """Yields squares that cover the image and overlap by at least half: one square contains the whole face."""
    for y in _starts(whole.height, side):
        for x in _starts(whole.width, side):
            yield Box(x, y, x + side, y + side)


def _starts(length: int, side: int) -> list[int]:
    steps = -(-(length - side) * 2 // side)
    return [round(i * (length - side) / steps) for i in range(steps + 1)] if steps else [0]


def _padded(whole: Box) -> Box:
    margin = round(_PADDING * max(whole.width, whole.height))
    return Box(-margin, -margin, whole.width + margin, whole.height + margin)


def _surroundings(box: Box) -> Box:
    grow = 2 * max(box.width, box.height)
    return Box(box.x1 - grow, box.y1 - grow, box.x2 + grow, box.y2 + grow)


def _box(points: _Array) -> Box:
    (x1, y1), (x2, y2) = np.floor(points[0]), np.ceil(points[1])
    return Box(int(x1), int(y1), int(x2), int(y2))


def _corners(box: Box) -> _Array:
    return np.array([[box.x1, box.y1], [box.x2, box.y2]], np.float32)


def _unique(faces: list[FoundFace]) -> list[FoundFace]:
    """Returns each face once: overlapping tiles and double detections end in the same mesh."""
    kept: list[FoundFace] = []
    for face in faces:
        extent = _extent(face.landmarks)
        if all(box_overlap(extent, _extent(other.landmarks)) <= SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept


def _extent(mesh: Points) -> _Array:
    return np.stack([mesh.min(0), mesh.max(0)])
