"""Temporal smoothing of the landmarks of an avatar: removes the jitter of the face mesh and keeps real motion."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from warmtalk.models.mesh.landmark_measures import eye_distance
from warmtalk.models.mesh.shape import smoothstep

WINDOW_ROWS = 4
"""Rows to either side of the smoothing window."""
JITTER = (0.012, 0.03)
"""Eye distances (soft threshold). A correction below the first value removes jitter; above the second the motion is
real and stays."""
MAX_STEP = 0.25
"""Eye distances. A larger motion of the face between two rows is a cut to another shot."""


def smooth_landmarks(landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Returns [n, 468, 2] landmarks without the jitter of the face mesh.

    A local quadratic fit over time (Savitzky-Golay) keeps slow motion. A point with a large correction is moving fast,
    as lips do, and keeps the measured position. Unusable rows and cuts to another shot limit the window.
    """
    result = landmarks.copy()
    for start, stop in _continuous_ranges(landmarks, usable):
        half = min(WINDOW_ROWS, (stop - start - 1) // 2)
        if half < 2:
            continue
        for row in range(start, stop):
            low = min(max(row - half, start), stop - 2 * half - 1)
            window = landmarks[low : low + 2 * half + 1]
            corrections = np.tensordot(_fit_weights(2 * half + 1, row - low), window, 1) - landmarks[row]
            length = np.linalg.norm(corrections, axis=1) / eye_distance(landmarks[row])
            result[row] += corrections * (1 - smoothstep(*JITTER, length))[:, None]
    return result


@cache
def _fit_weights(count: int, index: int) -> npt.NDArray[np.float64]:
    """Returns [count] weights of the rows of a window in the value of the quadratic fit at row `index`."""
    times = np.arange(count) - index
    return np.asarray(np.linalg.pinv(np.stack([times**0, times, times**2], 1))[0])


def _continuous_ranges(landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns half-open ranges of usable rows without a cut."""
    steps = np.abs(np.diff(landmarks, axis=0)).mean((1, 2)) / eye_distance(landmarks[1:])
    joined = usable[1:] & usable[:-1] & (steps < MAX_STEP)
    breaks = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(usable)]
    return [(a, b) for a, b in pairwise(breaks) if usable[a:b].all()]
