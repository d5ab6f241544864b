"""Faces of one frame from two sources: the embedded face mesh, and the detector whose points define the face box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68, ibug68
from warmtalk.core.ports import DetectedFace, FaceDetector
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder, FoundFace

MAX_FACES = 4
"""Maximum number of faces kept per frame, the largest first."""
SAME_FACE_IOU = 0.3
"""Minimum overlap (intersection over union) of the bounding boxes of two sets of 68 points of the same face."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceObservation:
    """One face in one frame."""

    score: float
    landmarks: Points
    """[468, 2] mesh points, frame pixels."""
    detector_offset: Points
    """[68, 2] the detector's iBUG points minus the mesh's iBUG points, pixels. Zeros when the mesh is the detector, NaN
    where the detector does not see this face."""


class FaceDetectorPair:
    """The mesh finder and a detector. A face without a mesh is dropped, because the embedded renderer needs the mesh.

    Not thread-safe.
    """

    def __init__(self, finder: FaceFinder, detector: FaceDetector) -> None:
        self._finder = finder
        self._detector = detector

    def detect(self, image: Image, near: Box | None = None, previous: Sequence[Points] = ()) -> list[FaceObservation]:
        """Returns the faces of a frame, the largest first.

        `near` and `previous` are the last known box of the main face and the meshes of recent frames, as in
        FaceFinder.find. A face seen by the mesh alone is kept, with an unknown detector offset. A face seen by the
        detector alone is searched again by the mesh at the detector's position, and is dropped when the mesh does not
        confirm the face.
        """
        meshes = self._finder.find(image, near=near, previous=previous)
        if self._detector is self._finder:
            faces = [_observation(mesh, np.zeros((68, 2), np.float32)) for mesh in meshes]
        else:
            detections = self._detector.detect(image, [bounding_box(mesh.landmarks) for mesh in meshes])
            faces = self._combine(image, meshes, detections)
        faces.sort(key=lambda face: -_area(bounding_box(face.landmarks)))
        return faces[:MAX_FACES]

    def _combine(self, image: Image, meshes: list[FoundFace], detections: list[DetectedFace]) -> list[FaceObservation]:
        partners = match_faces([ibug68(mesh.landmarks) for mesh in meshes], [one.points for one in detections])
        unknown = np.full((68, 2), np.nan, np.float32)
        faces = [
            _observation(mesh, detections[partners[i]].points - ibug68(mesh.landmarks) if i in partners else unknown)
            for i, mesh in enumerate(meshes)
        ]
        for i in sorted(set(range(len(detections))) - set(partners.values())):
            points = detections[i].points
            if match_faces([points], [ibug68(face.landmarks) for face in faces]):
                continue  # a second detection of a face that is already in the list
            mesh = self._finder.fit(image, points, detections[i].score)
            if mesh and match_faces([ibug68(mesh.landmarks)], [points]):
                faces.append(_observation(mesh, points - ibug68(mesh.landmarks)))
        return faces


def match_faces(a: list[Points], b: list[Points]) -> dict[int, int]:
    """Returns index in `a` to index in `b` for faces whose bounding boxes overlap.

    Pairs are formed greedily, the largest overlap first; each face belongs to at most one pair.
    """
    overlaps = [(_iou(one, other), i, j) for i, one in enumerate(a) for j, other in enumerate(b)]
    pairs: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= SAME_FACE_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def box_points(landmarks: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns [n, 68, 2] points that define the face boxes of one person in n frames.

    `landmarks` are [n, 468, 2] smoothed mesh points; `offsets` are [n, 68, 2] as FaceObservation.detector_offset.
    Where the detector did not see the face, the offset relative to the face's width is interpolated from the
    neighbouring frames. Where the detector never saw the face, the result is the mesh's own points.
    """
    points = np.asarray(landmarks[:, IBUG_68], np.float32)
    width = np.maximum(np.ptp(points[:, :, 0], axis=1), 1.0)[:, None, None]
    known = np.flatnonzero(np.isfinite(offsets).all((1, 2)))
    if not known.size:
        return points
    relative = (offsets / width)[known].reshape(len(known), -1)
    frames = np.arange(len(points))
    filled = np.stack([np.interp(frames, known, column) for column in relative.T], axis=1)
    return np.asarray(points + filled.reshape(-1, 68, 2) * width, np.float32)


def bounding_box(points: Points) -> Box:
    """Returns the smallest box of whole pixels that contains all points."""
    low, high = np.floor(points.min(0)).astype(int).tolist(), np.ceil(points.max(0)).astype(int).tolist()
    return Box(*low, *high)


def _observation(mesh: FoundFace, detector_offset: Points) -> FaceObservation:
    return FaceObservation(mesh.score * mesh.mesh_score, mesh.landmarks, np.asarray(detector_offset, np.float32))


def _area(box: Box) -> int:
    return box.width * box.height


def _iou(a: Points, b: Points) -> float:
    one, other = bounding_box(a), bounding_box(b)
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    common = max(width, 0) * max(height, 0)
    return common / max(_area(one) + _area(other) - common, 1)
