"""Makes landmarks and face boxes quiet where the head is, and lets them go with it where it moves.

All frames are known, so the filters look both ways and delay nothing. They work in the head's own coordinates: what
the pictures themselves say about the motion (motion.py) is taken out first and put back afterwards, so that the
detector's trembling is smoothed and not the motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68

_Array = npt.NDArray[np.float32]
_Exact = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]

FILTERS = ("tracked", "one_euro", "reference")
MAX_BRIDGED_FRAMES = 3
"""Shorter gaps are a detector's hiccup: the face is drawn between its neighbours."""
JUMP = 0.5
"""A move between two frames by so much of the face's width is a cut of the film, not a move."""
_STILL, _MOVING = 0.004, 0.015
"""Parts of the face's width: a difference between strong and light smoothing below the first is tremble, above the
second it is motion."""
_STABLE = IBUG_68[17:48]
_PLACE_FRAMES = 12.0
"""Width (sigma) of the filter of a box's middle in the head's coordinates, and of that of its size."""
_SIZE_FRAMES = 25.0
_LIGHT_FRAMES = 3.0
_ADRIFT = (0.02, 0.05)
"""Parts of the face's width. The box's middle is held within the head up to the first; beyond the second, where the
head turns and its outline moves against eyes and nose, it follows."""


@dataclass(frozen=True, slots=True)
class SmoothingParams:
    """How boxes are calmed."""

    filter: str = "tracked"
    """ "tracked": with the head, both ways; "one_euro": causal, as live programs must; "reference": boxes of each
    frame's points cut to whole pixels, as the reference program makes them."""
    scale_lock: float = 0.04
    """Part of its size by which a face may seem to change before its box does; 0 locks nothing. The size of a head that
    comes nearer is known from tracking and followed at once."""
    beta: float = 0.05
    """One-Euro: how much faster the filter gets with speed (Casiez, Roussel and Vogel, CHI 2012)."""
    cutoff_hz: float = 1.0
    """One-Euro: at rest."""

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise ValueError(f"prep.steady is {self.filter!r}, not one of {', '.join(FILTERS)}")
        if not 0 <= self.scale_lock <= 1:
            raise ValueError(f"prep.scale_lock is {self.scale_lock}, not from 0 to 1")
        if self.beta < 0 or self.cutoff_hz <= 0:
            raise ValueError("prep.one_euro_beta must be at least 0 and prep.one_euro_cutoff_hz above it")


def smooth_landmarks(landmarks: _Array, present: _Bool, motion: _Array | None = None) -> tuple[_Array, _Bool]:
    """[n, 468, 2] landmarks without tremble, with short gaps closed; and [n] bool where there are any.

    `motion` is [n, 2, 3], see motion.Motion. Never smooths over a cut or a gap.
    """
    points, filled = _bridged(landmarks, present)
    result = np.zeros_like(points)
    for start, stop in _runs(points, filled):
        path = _path(points[start:stop], None if motion is None else motion[start:stop])
        head = _moved(points[start:stop], _inverse(path))
        result[start:stop] = _moved(_quiet(head), path)
    return result, filled


def smooth_boxes(
    places: _Array, landmarks: _Array, usable: _Bool, motion: _Array | None, fps: float, how: SmoothingParams
) -> _Array:
    """[n, 4] face boxes, whole pixels or not, to steady ones; rows that are not usable are zeros.

    `landmarks` are those that the boxes were made of, calmed; boxes never move across a cut or a gap.
    """
    result = np.zeros((len(places), 4), np.float32)
    for start, stop in _runs(landmarks, usable):
        rows = slice(start, stop)
        boxes = _middles(places[rows].astype(np.float64))
        if how.filter == "one_euro":
            boxes = _one_euro(boxes, fps, how)
        else:
            path = _path(landmarks[rows], None if motion is None else motion[rows])
            boxes = _held(boxes, path, how.scale_lock)
        result[rows] = _edges(boxes)
    return result


def _held(boxes: _Exact, path: _Exact, scale_lock: float) -> _Exact:
    """[n, 4] middle x, y and logarithms of width and height, calmed within the head."""
    carried = np.zeros_like(boxes)
    for i in range(1, len(boxes)):
        step = path[i] @ np.linalg.inv(path[i - 1])
        middle = boxes[i - 1, :2]
        carried[i, :2] = carried[i - 1, :2] + step[:2, :2] @ middle + step[:2, 2] - middle
        carried[i, 2:] = carried[i - 1, 2:] + np.log(np.linalg.det(step[:2, :2])) / 2
    rest = boxes - carried
    light = _smooth(rest, _LIGHT_FRAMES)
    width = np.exp(np.median(boxes[:, 2]))
    middle = _mixed(_smooth(rest[:, :2], _PLACE_FRAMES), light[:, :2], width * np.array(_ADRIFT))
    size = light[:, 2:]
    if scale_lock > 0:
        size = _mixed(_smooth(rest[:, 2:], _SIZE_FRAMES), size, np.array([1.0, 2.5]) * scale_lock)
    return np.hstack([middle, size]) + carried


def _mixed(strong: _Exact, light: _Exact, limits: _Exact) -> _Exact:
    """Strong where both are nearer than the first limit, light beyond the second."""
    apart = np.abs(strong - light).max(1, keepdims=True)
    share = np.clip((apart - limits[0]) / (limits[1] - limits[0]), 0, 1)
    return np.asarray(strong + (light - strong) * share * share * (3 - 2 * share))


def _one_euro(values: _Exact, fps: float, how: SmoothingParams) -> _Exact:
    """Sizes are logarithms: their speed counts as that of the edges they move."""
    units = np.array([1, 1, *(np.exp(np.median(values[:, 2:], axis=0)) / 2)])
    found = values * units
    speed = np.zeros(values.shape[1])
    for i in range(1, len(found)):
        speed += _share(1.0, fps) * ((found[i] - found[i - 1]) * fps - speed)
        found[i] = found[i - 1] + _share(how.cutoff_hz + how.beta * np.abs(speed), fps) * (found[i] - found[i - 1])
    return np.asarray(found / units)


def _share(cutoff_hz: float | _Exact, fps: float) -> float | _Exact:
    """Of the new value in a first-order low-pass filter."""
    return 1 / (1 + fps / (2 * np.pi * cutoff_hz))


def _middles(places: _Exact) -> _Exact:
    x1, y1, x2, y2 = places.T
    return np.stack([(x1 + x2) / 2, (y1 + y2) / 2, np.log(x2 - x1), np.log(y2 - y1)], 1)


def _edges(boxes: _Exact) -> _Exact:
    half = np.exp(boxes[:, 2:]) / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _path(points: _Array, motion: _Array | None) -> _Exact:
    """[n, 3, 3] from the head in the first frame to the head in each: from picture to picture where that is known, else
    by the points."""
    path = np.tile(np.eye(3), (len(points), 1, 1))
    calm = _quiet(points)
    for i in range(1, len(points)):
        step = np.eye(3)
        step[:2] = (
            motion[i] if motion is not None and np.isfinite(motion[i]).all() else _similarity(calm[i], calm[i - 1])
        )
        path[i] = np.linalg.inv(step) @ path[i - 1]
    return path


def _similarity(now: _Array, before: _Array) -> _Exact:
    found, _ = cv2.estimateAffinePartial2D(now[_STABLE], before[_STABLE], method=cv2.LMEDS)
    return np.eye(3)[:2] if found is None else np.asarray(found, np.float64)


def _inverse(path: _Exact) -> _Exact:
    return np.asarray(np.linalg.inv(path))


def _moved(points: _Array, path: _Exact) -> _Array:
    moved = points @ np.swapaxes(path[:, :2, :2], 1, 2) + path[:, None, :2, 2]
    return np.asarray(moved, np.float32)


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


def _smooth(values: _Exact, frames: float) -> _Exact:
    """Gaussian over time. The ends go on level: there, what is at rest in the head stays where it was."""
    half = round(3 * frames)
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / frames) ** 2)
    padded = np.pad(values, ((half, half), (0, 0)), mode="reflect" if len(values) > half else "edge")
    total = [np.convolve(column, weights / weights.sum(), "valid") for column in padded.T]
    return np.stack(total, 1)
