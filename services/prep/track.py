"""The one face of an avatar, out of all faces seen: chosen by size and steadiness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]

SAME_FACE_IOU = 0.3
MAX_LOST_FRAMES = 12
"""A face that comes back at its place within so many frames is the same one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """All faces seen in a film, ordered by frame. Arrays of one length m."""

    frame: npt.NDArray[np.int32]
    """[m] frame of each."""
    score: _Array
    """[m] 0..1, detector times mesh."""
    sharpness: _Array
    """[m] variance of the Laplacian of the face at 128 x 128."""
    landmarks: _Array
    """[m, 468, 2] frame pixels."""
    apart: _Array
    """[m, 68, 2] pixels from the mesh's iBUG points to the detector's; NaN where it does not see the face."""
    motion: _Array
    """[m, 2, 3] see motion.Motion."""

    def __len__(self) -> int:
        return len(self.frame)


def main_face(seen: Sightings, frames: int) -> _Rows:
    """[frames] row of the avatar's face in `seen`, -1 where it is not.

    The face with the most pixels over time wins: a passer-by who is large for a moment does not. Later or earlier
    pieces join it when they do not overlap in time and lie where it was, at a similar size.
    """
    chosen = np.full(frames, -1, np.intp)
    if not len(seen):
        return chosen
    boxes = _boxes(seen.landmarks)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for track in sorted(_tracks(seen.frame, boxes), key=lambda rows: -float(areas[rows].sum())):
        if _joins(chosen, track, seen.frame, boxes):
            chosen[seen.frame[track]] = track
    return chosen


def _tracks(frame: npt.NDArray[np.int32], boxes: _Array) -> list[list[int]]:
    """Rows of each face, linked from frame to frame by overlap, the best overlap first."""
    tracks: list[list[int]] = []
    for number in np.unique(frame):
        free = [track for track in tracks if number - frame[track[-1]] <= MAX_LOST_FRAMES]
        rows = np.flatnonzero(frame == number).tolist()
        pairs = [(_iou(boxes[track[-1]], boxes[row]), i, row) for i, track in enumerate(free) for row in rows]
        taken: set[int] = set()
        for overlap, i, row in sorted(pairs, reverse=True):
            if overlap >= SAME_FACE_IOU and i not in taken and row in rows:
                free[i].append(row)
                taken.add(i)
                rows.remove(row)
        tracks += [[row] for row in rows]
    return tracks


def _joins(chosen: _Rows, track: list[int], frame: npt.NDArray[np.int32], boxes: _Array) -> bool:
    known = np.flatnonzero(chosen >= 0)
    if not known.size:
        return True
    mine = frame[track]
    if (chosen[mine] >= 0).any() or ((mine[0] < known) & (known < mine[-1])).any():
        return False
    nearest = known[np.abs(known - mine[0]).argmin()]
    a, b = boxes[chosen[nearest]], boxes[track[0] if nearest < mine[0] else track[-1]]
    size_a, size_b = float(a[2] - a[0]), float(b[2] - b[0])
    distance = float(np.abs((a[:2] + a[2:] - b[:2] - b[2:]) / 2).max())
    return distance < max(size_a, size_b) and 0.5 < size_b / max(size_a, 1e-6) < 2


def _boxes(landmarks: _Array) -> _Array:
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def _iou(a: _Array, b: _Array) -> float:
    common = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
