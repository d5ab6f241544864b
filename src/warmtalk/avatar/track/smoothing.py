"""Temporal smoothing of landmarks and face boxes: steady while the head is at rest, following the head's motion.

All frames are known, so the filters are bidirectional and add no delay. The filters work in the head's own coordinates:
the motion measured from the pixels (head_motion.py) is removed first and restored afterwards, so that the detector's
jitter is smoothed and the motion is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68

_Array = npt.NDArray[np.float32]
_Double = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]

FILTERS = ("tracked", "one_euro", "reference")
MAX_GAP_FRAMES = 3
"""Gaps of up to this length are detector dropouts: the face is interpolated between its neighbours."""
CUT_DISTANCE = 0.5
"""A move between two frames by this share of the face's width is a cut in the video, not a motion."""
_STILL, _MOVING = 0.004, 0.015
"""Shares of the face's width: a difference between strong and light smoothing below the first is jitter, above the
second is motion."""
_RIGID_POINTS = IBUG_68[17:48]
_CENTRE_SIGMA = 12.0
"""Frames: sigma of the filter for a box's centre in the head's coordinates."""
_SIZE_SIGMA = 25.0
"""Frames: sigma of the filter for a box's size."""
_LIGHT_SIGMA = 3.0
_CENTRE_DRIFT = (0.02, 0.05)
"""Shares of the face's width. The box's centre is fixed within the head up to the first value; beyond the second, where
the head turns and its outline moves against eyes and nose, the centre follows."""


@dataclass(frozen=True, slots=True)
class SmoothingParams:
    """Parameters of the box smoothing. The fields are keys of avatar.json."""

    filter: str = "tracked"
    """ "tracked": in the head's coordinates, bidirectional; "one_euro": causal, as in live programs; "reference": the
    box of each frame's points, truncated to whole pixels, as in the reference program."""
    scale_lock: float = 0.04
    """Share of its size by which a face may seem to change before the box's size changes; 0 disables the lock. The size
    of a head that approaches the camera is known from tracking and followed immediately."""
    beta: float = 0.05
    """One-Euro: increase of the cutoff frequency with speed (Casiez, Roussel and Vogel, CHI 2012)."""
    cutoff_hz: float = 1.0
    """One-Euro: cutoff frequency at rest."""

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise ValueError(f"prep.steady is {self.filter!r}, not one of {', '.join(FILTERS)}")
        if not 0 <= self.scale_lock <= 1:
            raise ValueError(f"prep.scale_lock is {self.scale_lock}, not from 0 to 1")
        if self.beta < 0 or self.cutoff_hz <= 0:
            raise ValueError("prep.one_euro_beta must be at least 0 and prep.one_euro_cutoff_hz above it")


def smooth_landmarks(landmarks: _Array, present: _Bool, motion: _Array | None = None) -> tuple[_Array, _Bool]:
    """Returns [n, 468, 2] landmarks without jitter and with short gaps interpolated, and [n] bool presence.

    `motion` is [n, 2, 3], see head_motion.Motion. Never smooths across a cut or a long gap.
    """
    points, filled = _interpolate_gaps(landmarks, present)
    result = np.zeros_like(points)
    for start, stop in _runs(points, filled):
        path = _head_path(points[start:stop], None if motion is None else motion[start:stop])
        in_head = _transform(points[start:stop], np.asarray(np.linalg.inv(path)))
        result[start:stop] = _transform(_smooth_points(in_head), path)
    return result, filled


def smooth_boxes(
    boxes: _Array, landmarks: _Array, usable: _Bool, motion: _Array | None, fps: float, params: SmoothingParams
) -> _Array:
    """Returns [n, 4] smoothed face boxes; rows that are not usable are zeros.

    `boxes` are [n, 4], with or without sub-pixels; `landmarks` are the smoothed landmarks that define the boxes. Never
    smooths across a cut or a gap.
    """
    result = np.zeros((len(boxes), 4), np.float32)
    for start, stop in _runs(landmarks, usable):
        rows = slice(start, stop)
        values = _to_centre_and_size(boxes[rows].astype(np.float64))
        if params.filter == "one_euro":
            values = _one_euro(values, fps, params)
        else:
            path = _head_path(landmarks[rows], None if motion is None else motion[rows])
            values = _smooth_in_head(values, path, params.scale_lock)
        result[rows] = _to_edges(values)
    return result


def _smooth_in_head(boxes: _Double, path: _Double, scale_lock: float) -> _Double:
    """Smooths [n, 4] centre x, y and logarithms of width and height in the head's coordinates."""
    carried = np.zeros_like(boxes)
    for i in range(1, len(boxes)):
        step = path[i] @ np.linalg.inv(path[i - 1])
        centre = boxes[i - 1, :2]
        carried[i, :2] = carried[i - 1, :2] + step[:2, :2] @ centre + step[:2, 2] - centre
        carried[i, 2:] = carried[i - 1, 2:] + np.log(np.linalg.det(step[:2, :2])) / 2
    residual = boxes - carried
    light = _gaussian(residual, _LIGHT_SIGMA)
    width = np.exp(np.median(boxes[:, 2]))
    centre = _blend_filters(_gaussian(residual[:, :2], _CENTRE_SIGMA), light[:, :2], width * np.array(_CENTRE_DRIFT))
    size = light[:, 2:]
    if scale_lock > 0:
        size = _blend_filters(_gaussian(residual[:, 2:], _SIZE_SIGMA), size, np.array([1.0, 2.5]) * scale_lock)
    return np.hstack([centre, size]) + carried


def _blend_filters(strong: _Double, light: _Double, limits: _Double) -> _Double:
    """Returns `strong` where both differ by less than the first limit, `light` beyond the second, blended between."""
    difference = np.abs(strong - light).max(1, keepdims=True)
    share = np.clip((difference - limits[0]) / (limits[1] - limits[0]), 0, 1)
    return np.asarray(strong + (light - strong) * share * share * (3 - 2 * share))


def _one_euro(values: _Double, fps: float, params: SmoothingParams) -> _Double:
    """Applies the One-Euro filter. Sizes are logarithms, so the speed is converted to that of the box's edges."""
    units = np.array([1, 1, *(np.exp(np.median(values[:, 2:], axis=0)) / 2)])
    result = values * units
    speed = np.zeros(values.shape[1])
    for i in range(1, len(result)):
        step = result[i] - result[i - 1]
        speed += _low_pass_weight(1.0, fps) * (step * fps - speed)
        cutoff_hz = params.cutoff_hz + params.beta * np.abs(speed)
        result[i] = result[i - 1] + _low_pass_weight(cutoff_hz, fps) * step
    return np.asarray(result / units)


def _low_pass_weight(cutoff_hz: float | _Double, fps: float) -> float | _Double:
    """Returns the weight of the new value in a first-order low-pass filter."""
    return 1 / (1 + fps / (2 * np.pi * cutoff_hz))


def _to_centre_and_size(boxes: _Double) -> _Double:
    x1, y1, x2, y2 = boxes.T
    return np.stack([(x1 + x2) / 2, (y1 + y2) / 2, np.log(x2 - x1), np.log(y2 - y1)], 1)


def _to_edges(boxes: _Double) -> _Double:
    half = np.exp(boxes[:, 2:]) / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _head_path(points: _Array, motion: _Array | None) -> _Double:
    """Returns [n, 3, 3] transforms from the head in the first frame to the head in each frame.

    A step uses `motion` where the motion is known, and else the points.
    """
    path = np.tile(np.eye(3), (len(points), 1, 1))
    smooth = _smooth_points(points)
    for i in range(1, len(points)):
        step = np.eye(3)
        known = motion is not None and np.isfinite(motion[i]).all()
        step[:2] = motion[i] if motion is not None and known else _similarity(smooth[i], smooth[i - 1])
        path[i] = np.linalg.inv(step) @ path[i - 1]
    return path


def _similarity(points: _Array, previous: _Array) -> _Double:
    matrix, _ = cv2.estimateAffinePartial2D(points[_RIGID_POINTS], previous[_RIGID_POINTS], method=cv2.LMEDS)
    return np.eye(3)[:2] if matrix is None else np.asarray(matrix, np.float64)


def _transform(points: _Array, path: _Double) -> _Array:
    moved = points @ np.swapaxes(path[:, :2, :2], 1, 2) + path[:, None, :2, 2]
    return np.asarray(moved, np.float32)


def _interpolate_gaps(landmarks: _Array, present: npt.NDArray[np.bool_]) -> tuple[_Array, npt.NDArray[np.bool_]]:
    points, filled = landmarks.copy(), present.copy()
    known = np.flatnonzero(present)
    for a, b in pairwise(known):
        if 1 < b - a <= MAX_GAP_FRAMES + 1 and not _is_cut(points[a], points[b]):
            for i in range(a + 1, b):
                points[i] = points[a] + (points[b] - points[a]) * ((i - a) / (b - a))
                filled[i] = True
    return points, filled


def _runs(points: _Array, present: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns half-open ranges of frames in which one face moves without a gap or a cut."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(present).tolist():
        if runs and runs[-1][1] == i and not _is_cut(points[i - 1], points[i]):
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _is_cut(a: _Array, b: _Array) -> bool:
    return float(np.abs(a.mean(0) - b.mean(0)).max()) > CUT_DISTANCE * float(np.ptp(a[:, 0]))


def _smooth_points(points: _Array) -> _Array:
    """Applies strong smoothing to points at rest and light smoothing to moving points, with a soft transition."""
    light = _convolve(points, np.array([-2, 3, 6, 7, 6, 3, -2]) / 21)  # Savitzky-Golay, order 2
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    strong = _convolve(points, weights / weights.sum())
    width = np.ptp(points[:, :, 0], axis=1).mean()
    motion = np.linalg.norm(strong - light, axis=2) / max(float(width), 1e-6)
    share = np.clip((motion - _STILL) / (_MOVING - _STILL), 0, 1)[:, :, None]
    return np.asarray(strong + (light - strong) * share, np.float32)


def _convolve(points: _Array, weights: npt.NDArray[np.float64]) -> _Array:
    """Filters over time. The ends are padded by point reflection, which keeps both position and speed there."""
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


def _gaussian(values: _Double, sigma: float) -> _Double:
    """Filters over time by a Gaussian. The ends are padded by mirroring: a value at rest in the head stays constant."""
    half = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    padded = np.pad(values, ((half, half), (0, 0)), mode="reflect" if len(values) > half else "edge")
    total = [np.convolve(column, weights / weights.sum(), "valid") for column in padded.T]
    return np.stack(total, 1)
