"""The one face of an avatar, out of all faces seen: chosen by size and steadiness, gaps closed, made quiet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]

SAME_FACE_IOU = 0.3
MAX_LOST_FRAMES = 12
"""A face that comes back at its place within so many frames is the same one."""
MAX_BRIDGED_FRAMES = 3
"""Shorter gaps are a detector's hiccup: the face is drawn between its neighbours."""
JUMP = 0.5
"""A move between two frames by so much of the face's width is a cut of the film, not a move."""
_STILL, _MOVING = 0.004, 0.015
"""Parts of the face's width: a difference between strong and light smoothing below the first is tremble, above the
second it is motion."""


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


def steady(landmarks: _Array, present: npt.NDArray[np.bool_]) -> tuple[_Array, npt.NDArray[np.bool_]]:
    """[n, 468, 2] landmarks without tremble, with short gaps closed; and [n] bool where there are any.

    All frames are known, so the filters look both ways and delay nothing. Never smooths over a cut or a gap.
    """
    points, filled = _bridged(landmarks, present)
    result = np.zeros_like(points)
    for start, stop in _runs(points, filled):
        result[start:stop] = _quiet(points[start:stop])
    return result, filled


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


def _bridged(landmarks: _Array, present: npt.NDArray[np.bool_]) -> tuple[_Array, npt.NDArray[np.bool_]]:
    points, filled = landmarks.copy(), present.copy()
    known = np.flatnonzero(present)
    for a, b in pairwise(known):
        if 1 < b - a <= MAX_BRIDGED_FRAMES + 1 and not _jumps(points[a], points[b]):
            for i in range(a + 1, b):
                points[i] = points[a] + (points[b] - points[a]) * ((i - a) / (b - a))
                filled[i] = True
    return points, filled


def _runs(points: _Array, present: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of frames in which one face moves without a break."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(present).tolist():
        if runs and runs[-1][1] == i and not _jumps(points[i - 1], points[i]):
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _jumps(a: _Array, b: _Array) -> bool:
    return float(np.abs(a.mean(0) - b.mean(0)).max()) > JUMP * float(np.ptp(a[:, 0]))


def _quiet(points: _Array) -> _Array:
    """Strong smoothing for points at rest, light for those that move, with a soft change between them."""
    light = _filtered(points, np.array([-2, 3, 6, 7, 6, 3, -2]) / 21)  # Savitzky-Golay, order 2
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    strong = _filtered(points, weights / weights.sum())
    width = np.ptp(points[:, :, 0], axis=1).mean()
    motion = np.linalg.norm(strong - light, axis=2) / max(float(width), 1e-6)
    share = np.clip((motion - _STILL) / (_MOVING - _STILL), 0, 1)[:, :, None]
    return np.asarray(strong + (light - strong) * share, np.float32)


def _filtered(points: _Array, weights: npt.NDArray[np.float64]) -> _Array:
    """Ends are continued by their point reflection, which keeps both place and speed there."""
    half = len(weights) // 2
    n = len(points)
    if n <= half:
        return points
    before = 2 * points[0] - points[half:0:-1]
    after = 2 * points[-1] - points[-2 : -half - 2 : -1]
    padded = np.concatenate([before, points, after])
    total = np.zeros_like(points)
    for i, weight in enumerate(weights):
        total += np.float32(weight) * padded[i : i + n]
    return total


def _boxes(landmarks: _Array) -> _Array:
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def _iou(a: _Array, b: _Array) -> float:
    common = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
