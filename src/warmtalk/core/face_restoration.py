"""Face restoration with temporal blending against flicker. The network is a callable; this module holds no model.

The face is aligned to the five points of FFHQ faces at 512 x 512 and restored. The difference between restored and
aligned face is warped back into the frame under a soft mask. Restorers process each frame alone, and the difference
flickers; therefore the difference is blended over time where the face stands still, and taken from the current frame
where the face moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Image, Points

SIDE = 512
"""Side of the aligned face in pixels."""
TEMPLATE = np.array(
    [[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]], np.float32
)
"""[5, 2]: right eye, left eye, tip of the nose, right and left corner of the mouth, seen from the person, as in FFHQ.
"""
AREAS = {"face": ((256, 285), (160, 175)), "mouth": ((256, 375), (112, 78))}
"""Name -> centre and half axes of the restored ellipse, in pixels of the aligned face."""
KEEP = 0.95
"""Share of the previous difference from frame to frame without motion."""
MOTION = 5.0
"""Change of the face since the previous difference, in grey levels, from where most of that difference is dropped."""
_FEATHER = 18.0
"""Sigma of the soft edge of the mask, in pixels of the aligned face."""
_MOTION_BLUR = 7.0
"""Sigma of the blur for measuring motion, in pixels of the aligned face."""
_NOISE = 1.5
"""Change caused by camera noise, in grey levels."""
_STILL = 0.01
"""Motion of the points relative to the distance of the eyes; a smaller motion hardly changes the alignment."""
_EYES = ((33, 133, 159, 145), (263, 362, 386, 374))
_NOSE, _CORNERS = 4, (61, 291)
"""Indices of mesh points: corners and lids of both eyes, tip of the nose, corners of the mouth."""

Restorer = Callable[[Image], Image]
"""Maps a [512, 512, 3] uint8 BGR aligned face to the restored face of the same shape."""
_Field = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFace:
    """State after one frame of one face. Stored with the finished frames, a resumed run continues identically."""

    points: Points
    """[5, 2] smoothed points in frame pixels."""
    aligned: _Field
    """[512, 512, 3] aligned face of `difference`, blended over time in the same way, so slow changes add up."""
    difference: _Field
    """[512, 512, 3] restored face minus aligned face, blended over time."""


def five_points(mesh: Points) -> Points:
    """Returns the [5, 2] alignment points of the 468 mesh points, in the order of TEMPLATE."""
    eyes = [mesh[list(eye)].mean(0) for eye in _EYES]
    return np.asarray([*eyes, mesh[_NOSE], *(mesh[corner] for corner in _CORNERS)], np.float32)


class FaceRestoration:
    """Restoration of one face of a video, frame after frame. Not thread-safe."""

    def __init__(self, restorer: Restorer, *, area: str = "face", strength: float = 1.0, keep: float = KEEP) -> None:
        """`area` is a key of AREAS. `strength` 0 to 1 scales the difference. `keep` 0 turns temporal blending off."""
        self._restorer = restorer
        self._mask = _ellipse(*AREAS[area]) * np.float32(strength)
        self._keep = keep
        self.previous: RestoredFace | None = None

    def frame(self, image: Image, mesh: Points | None) -> Image:
        """Returns the frame, [H, W, 3] uint8 BGR, with the face at `mesh` restored. `mesh` is [468, 2] in frame pixels.

        With None the frame stays as it is and the state is reset.
        """
        if mesh is None:
            self.previous = None
            return image
        points = _smoothed(self.previous.points if self.previous else None, five_points(mesh))
        transform = similarity(points, TEMPLATE)
        aligned = np.asarray(cv2.warpAffine(image, transform, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)
        difference = self._restorer(aligned).astype(np.float32) - aligned
        self.previous = self._blend(points, aligned.astype(np.float32), difference)
        return _add_aligned(image, self.previous.difference * self._mask[:, :, None], transform)

    def _blend(self, points: Points, aligned: _Field, difference: _Field) -> RestoredFace:
        if self.previous is None:
            return RestoredFace(points, aligned, difference)
        previous = self.previous
        change = np.abs(aligned - previous.aligned).mean(2)
        motion = np.maximum(cv2.GaussianBlur(change, (0, 0), _MOTION_BLUR) - _NOISE, 0) / MOTION
        keep = (self._keep * np.exp(-(motion**2))).astype(np.float32)[:, :, None]
        return RestoredFace(
            points,
            aligned + keep * (previous.aligned - aligned),
            difference + keep * (previous.difference - difference),
        )


class VideoRestoration:
    """Restoration of all faces of a video, frame after frame, each face with its own state. Not thread-safe."""

    def __init__(self, restorer: Restorer, *, area: str = "face", strength: float = 1.0) -> None:
        """Takes the arguments of FaceRestoration."""
        self._restoration = FaceRestoration(restorer, area=area, strength=strength)
        self.previous_faces: list[RestoredFace] = []
        """States of the faces of the last frame. Stored with the finished frames, for a resumed run."""

    def frame(self, image: Image, meshes: Sequence[Points]) -> Image:
        """Returns the frame with all faces restored. `meshes` are [468, 2] in frame pixels, one for each face."""
        candidates, self.previous_faces = self.previous_faces, []
        for mesh in meshes:
            self._restoration.previous = _nearest_face(candidates, five_points(mesh))
            candidates = [face for face in candidates if face is not self._restoration.previous]
            image = self._restoration.frame(image, mesh)
            assert self._restoration.previous is not None
            self.previous_faces.append(self._restoration.previous)
        return image


def _nearest_face(faces: Sequence[RestoredFace], points: Points) -> RestoredFace | None:
    """Returns the previous face nearest to `points`; None if farther away than the distance of the eyes."""
    eye_distance = float(np.linalg.norm(points[0] - points[1]))
    distance = {id(face): float(np.linalg.norm(face.points - points, axis=1).mean()) for face in faces}
    nearest = min(faces, key=lambda face: distance[id(face)], default=None)
    return nearest if nearest is not None and distance[id(nearest)] < eye_distance else None


def similarity(points: Points, target: Points) -> npt.NDArray[np.float64]:
    """Returns the [2, 3] similarity transform (rotation, scale, translation) from `points` to `target`, by least
    squares.
    """
    x, y = points.T.astype(np.float64)
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, right, down), *_ = np.linalg.lstsq(rows, target.T.reshape(-1).astype(np.float64), rcond=None)
    return np.array([[a, -b, right], [b, a, down]])


def _smoothed(previous: Points | None, points: Points) -> Points:
    """Damps small steps, which are mostly noise of the detector, and follows large steps of the head at once."""
    if previous is None:
        return points
    eye_distance = float(np.linalg.norm(points[0] - points[1]))
    step = float(np.linalg.norm((points - previous).mean(0))) / max(_STILL * eye_distance, 1e-6)
    return np.asarray(previous + (points - previous) * max(step**2 / (1 + step**2), 0.1), np.float32)


def _ellipse(centre: tuple[int, int], axes: tuple[int, int]) -> _Field:
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), _FEATHER), np.float32)


def _add_aligned(image: Image, difference: _Field, transform: npt.NDArray[np.float64]) -> Image:
    """Adds the aligned difference to the frame, within the rectangle covered by the difference."""
    height, width = image.shape[:2]
    back = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]]) @ back[:, :2].T + back[:, 2]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width, height))
    if left >= right or top >= bottom:
        return image
    back[:, 2] -= (left, top)
    added = cv2.warpAffine(difference, back, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    result = image.copy()
    part = result[top:bottom, left:right]
    part[:] = np.clip(np.rint(part + added), 0, 255).astype(np.uint8)
    return result
