"""The landmarks of one face over time: gaps closed, tremble taken out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float32]

MAX_BRIDGED_FRAMES = 3
"""Shorter gaps are a detector's hiccup: the face is drawn between its neighbours."""
JUMP = 0.5
"""A move between two frames by so much of the face's width is a cut of the film, not a move."""
_STILL, _MOVING = 0.004, 0.015
"""Parts of the face's width: a difference between strong and light smoothing below the first is tremble, above the
second it is motion."""


def steady(landmarks: _Array, present: npt.NDArray[np.bool_]) -> tuple[_Array, npt.NDArray[np.bool_]]:
    """[n, 468, 2] landmarks without tremble, with short gaps closed; and [n] bool where there are any.

    All frames are known, so the filters look both ways and delay nothing. Never smooths over a cut or a gap.
    """
    points, filled = _bridged(landmarks, present)
    result = np.zeros_like(points)
    for start, stop in _runs(points, filled):
        result[start:stop] = _quiet(points[start:stop])
    return result, filled


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
