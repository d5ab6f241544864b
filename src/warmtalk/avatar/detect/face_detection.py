"""Faces of one frame as two finders see them: the embedded mesh, and the detector that decides about the face box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68, ibug68
from warmtalk.core.ports import DetectedFace, FaceDetector
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.mesh import FaceFinder, FoundFace

MOST_FACES = 4
"""Kept of one frame, the largest."""
SAME_FACE_IOU = 0.3
"""Least overlap of the 68 points' extents for two finders to have seen the same face."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceObservation:
    """One face of one frame."""

    score: float
    landmarks: Points
    """[468, 2] mesh, frame pixels."""
    apart: Points
    """[68, 2] the detector's iBUG points minus the mesh's, pixels: zeros when the mesh is the detector, NaN where the
    detector does not see this face."""


class FaceDetectorPair:
    """Not thread-safe. A face needs a mesh to be kept: the embedded renderer draws with it."""

    def __init__(self, finder: FaceFinder, detector: FaceDetector) -> None:
        self._finder = finder
        self._detector = detector

    def spot(self, image: Image, near: Box | None = None) -> list[FaceObservation]:
        """The largest face first. `near` is where it was a frame ago, as for FaceFinder.find.

        A face that the mesh alone sees is kept, apart unknown. One that the detector alone sees is looked at again by
        the mesh, there; if it sees no face then either, the face is left out.
        """
        found = self._finder.find(image, near=near)
        if self._detector is self._finder:
            sightings = [_sighting(face, np.zeros((68, 2), np.float32)) for face in found]
        else:
            seen = self._detector.detect(image, [extent(face.landmarks) for face in found])
            sightings = self._matched(image, found, seen)
        sightings.sort(key=lambda one: -_area(extent(one.landmarks)))
        return sightings[:MOST_FACES]

    def _matched(self, image: Image, found: list[FoundFace], seen: list[DetectedFace]) -> list[FaceObservation]:
        partners = match_faces([ibug68(face.landmarks) for face in found], [face.points for face in seen])
        unknown = np.full((68, 2), np.nan, np.float32)
        result = [
            _sighting(face, seen[partners[i]].points - ibug68(face.landmarks) if i in partners else unknown)
            for i, face in enumerate(found)
        ]
        for i in sorted(set(range(len(seen))) - set(partners.values())):
            if match_faces([seen[i].points], [ibug68(one.landmarks) for one in result]):
                continue  # a face that is there already, seen twice
            again = self._finder.fit(image, seen[i].points, seen[i].score)
            if again and match_faces([ibug68(again.landmarks)], [seen[i].points]):
                result.append(_sighting(again, seen[i].points - ibug68(again.landmarks)))
        return result


def match_faces(a: list[Points], b: list[Points]) -> dict[int, int]:
    """Which of `b` each of `a` is, by overlap of their extents, the best overlaps first; each at most once."""
    overlaps = [(_iou(one, other), i, j) for i, one in enumerate(a) for j, other in enumerate(b)]
    pairs: dict[int, int] = {}
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= SAME_FACE_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def box_points(landmarks: npt.NDArray[np.float32], apart: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[n, 68, 2] points that decide about the face boxes of one person.

    `landmarks` [n, 468, 2] are the mesh's, steadied; `apart` [n, 68, 2] as in Sighting. Where the detector did not see
    the face its difference from the mesh, in parts of the face's width, is taken from the frames around; where it
    never did, the mesh's own points stand.
    """
    points = np.asarray(landmarks[:, IBUG_68], np.float32)
    width = np.maximum(np.ptp(points[:, :, 0], axis=1), 1.0)[:, None, None]
    known = np.flatnonzero(np.isfinite(apart).all((1, 2)))
    if not known.size:
        return points
    parts = (apart / width)[known].reshape(len(known), -1)
    frames = np.arange(len(points))
    filled = np.stack([np.interp(frames, known, column) for column in parts.T], axis=1)
    return np.asarray(points + filled.reshape(-1, 68, 2) * width, np.float32)


def extent(points: Points) -> Box:
    """The whole pixels around them."""
    low, high = np.floor(points.min(0)).astype(int).tolist(), np.ceil(points.max(0)).astype(int).tolist()
    return Box(*low, *high)


def _sighting(face: FoundFace, apart: Points) -> FaceObservation:
    return FaceObservation(face.score * face.mesh_score, face.landmarks, np.asarray(apart, np.float32))


def _area(box: Box) -> int:
    return box.width * box.height


def _iou(a: Points, b: Points) -> float:
    one, other = extent(a), extent(b)
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    common = max(width, 0) * max(height, 0)
    return common / max(_area(one) + _area(other) - common, 1)
