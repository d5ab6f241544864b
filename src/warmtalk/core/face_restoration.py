"""A restored face put back into its frames so that it does not tremble. Pure: what restores is a callable.

The face is turned upright to the five points that FFHQ's faces have at 512 x 512, restored there, and the difference
that this made goes back into the frame, under a soft mask. Restorers see each frame alone, so that the difference
trembles; it is blended over time where the face itself stands still, and taken fresh where it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Image, Points

SIDE = 512
TEMPLATE = np.array(
    [[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]], np.float32
)
"""[5, 2]: right eye, left eye, tip of the nose, right and left corner of the mouth (the person's), as in FFHQ."""
AREAS = {"face": ((256, 285), (160, 175)), "mouth": ((256, 375), (112, 78))}
"""Name -> centre and half axes of the ellipse that is restored, in the aligned picture."""
KEEP = 0.95
"""Part of the old difference that stays from frame to frame where nothing moves."""
MOTION = 5.0
"""Grey levels that the face is away from the one that the old difference belongs to, where most of that is let go."""
_FEATHER = 18.0
_MOTION_BLUR = 7.0
_NOISE = 1.5
"""Grey levels of change that are the camera's noise."""
_STILL = 0.01
"""Points that move by less than this part of the distance between the eyes hardly move the alignment."""
_EYES = ((33, 133, 159, 145), (263, 362, 386, 374))
_NOSE, _CORNERS = 4, (61, 291)

Restorer = Callable[[Image], Image]
"""[512, 512, 3] uint8 BGR aligned face to the same, restored."""
_Field = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFace:
    """What is known of the frame before. To be kept with what was written so far, so that it goes on the same."""

    points: Points
    """[5, 2] frame pixels, steadied."""
    aligned: _Field
    """[512, 512, 3]: the face that the difference belongs to, blended over time as that is; so slow changes count."""
    difference: _Field
    """[512, 512, 3]."""


def five_points(mesh: Points) -> Points:
    """[5, 2] of the 468 mesh points, in the order of TEMPLATE."""
    eyes = [mesh[list(eye)].mean(0) for eye in _EYES]
    return np.asarray([*eyes, mesh[_NOSE], *(mesh[corner] for corner in _CORNERS)], np.float32)


class FaceRestoration:
    """One face of one film, frame after frame. Not thread-safe."""

    def __init__(self, restorer: Restorer, *, area: str = "face", strength: float = 1.0, keep: float = KEEP) -> None:
        """`area` is one of AREAS; `strength` 0..1 is how much of the difference is put in; `keep` 0 does not blend."""
        self._restorer = restorer
        self._mask = _ellipse(*AREAS[area]) * np.float32(strength)
        self._keep = keep
        self.previous: RestoredFace | None = None

    def frame(self, image: Image, mesh: Points | None) -> Image:
        """The frame with its face restored: [H, W, 3] uint8 BGR. `mesh` [468, 2] frame pixels; None shows it as it is,
        and the next face is one that was never seen.
        """
        if mesh is None:
            self.previous = None
            return image
        points = _steadied(self.previous.points if self.previous else None, five_points(mesh))
        turn = similarity(points, TEMPLATE)
        aligned = np.asarray(cv2.warpAffine(image, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)
        fresh = self._restorer(aligned).astype(np.float32) - aligned
        self.previous = self._blended(points, aligned.astype(np.float32), fresh)
        return _put(image, self.previous.difference * self._mask[:, :, None], turn)

    def _blended(self, points: Points, aligned: _Field, fresh: _Field) -> RestoredFace:
        if self.previous is None:
            return RestoredFace(points, aligned, fresh)
        before = self.previous
        change = np.abs(aligned - before.aligned).mean(2)
        motion = np.maximum(cv2.GaussianBlur(change, (0, 0), _MOTION_BLUR) - _NOISE, 0) / MOTION
        keep = (self._keep * np.exp(-(motion**2))).astype(np.float32)[:, :, None]
        old = [keep * (then - now) for then, now in ((before.aligned, aligned), (before.difference, fresh))]
        return RestoredFace(points, aligned + old[0], fresh + old[1])


class VideoRestoration:
    """All faces of one film, frame after frame, each with its own memory. Not thread-safe."""

    def __init__(self, restorer: Restorer, *, area: str = "face", strength: float = 1.0) -> None:
        """As FaceRestoration."""
        self._one = FaceRestoration(restorer, area=area, strength=strength)
        self.previous_faces: list[RestoredFace] = []
        """Of the faces of the last frame. To be kept with what was written so far."""

    def frame(self, image: Image, meshes: Sequence[Points]) -> Image:
        """The frame with these faces restored, [468, 2] frame pixels each."""
        before, self.previous_faces = self.previous_faces, []
        for mesh in meshes:
            self._one.previous = _known(before, five_points(mesh))
            before = [memory for memory in before if memory is not self._one.previous]
            image = self._one.frame(image, mesh)
            assert self._one.previous is not None
            self.previous_faces.append(self._one.previous)
        return image


def _known(memories: Sequence[RestoredFace], points: Points) -> RestoredFace | None:
    """That of the face that was here a frame ago: nearer than its eyes are apart."""
    eyes = float(np.linalg.norm(points[0] - points[1]))
    far = {id(one): float(np.linalg.norm(one.points - points, axis=1).mean()) for one in memories}
    nearest = min(memories, key=lambda one: far[id(one)], default=None)
    return nearest if nearest is not None and far[id(nearest)] < eyes else None


def similarity(points: Points, target: Points) -> npt.NDArray[np.float64]:
    """[2, 3]: the turn, scale and shift that bring `points` nearest to `target`, by least squares."""
    x, y = points.T.astype(np.float64)
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    (a, b, right, down), *_ = np.linalg.lstsq(rows, target.T.reshape(-1).astype(np.float64), rcond=None)
    return np.array([[a, -b, right], [b, a, down]])


def _steadied(before: Points | None, now: Points) -> Points:
    """Small steps are mostly the detector's noise, large ones are the head's: those are followed at once."""
    if before is None:
        return now
    eyes = float(np.linalg.norm(now[0] - now[1]))
    step = float(np.linalg.norm((now - before).mean(0))) / max(_STILL * eyes, 1e-6)
    return np.asarray(before + (now - before) * max(step**2 / (1 + step**2), 0.1), np.float32)


def _ellipse(centre: tuple[int, int], axes: tuple[int, int]) -> _Field:
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), _FEATHER), np.float32)


def _put(image: Image, difference: _Field, turn: npt.NDArray[np.float64]) -> Image:
    """Adds the aligned difference to the frame, in the rectangle that it covers there."""
    height, width = image.shape[:2]
    back = cv2.invertAffineTransform(turn)
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]]) @ back[:, :2].T + back[:, 2]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width, height))
    if left >= right or top >= bottom:
        return image
    back[:, 2] -= (left, top)
    added = cv2.warpAffine(difference, back, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    whole = image.copy()
    part = whole[top:bottom, left:right]
    part[:] = np.clip(np.rint(part + added), 0, 255).astype(np.uint8)
    return whole
