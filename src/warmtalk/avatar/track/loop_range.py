"""Range of a video that is played forwards and backwards, trimmed so that playback reverses in quiet moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_TRIM_SHARE = 0.1
"""Maximum share of the video that is trimmed at each end."""
MAX_TRIM_S = 2.0
"""Maximum number of seconds that are trimmed at each end."""
MIN_DURATION_S = 2.0
"""Shorter videos are used whole."""
_NEIGHBOURS = 2
"""Number of frames on either side that count for the motion of a frame."""
_BODY_WEIGHT = 0.02
"""Face widths per frame for each grey level of change in the image: motion beside the face counts too."""
_NO_FACE_MOTION = 1.0
_TRIM_COST = 0.02
"""Face widths per frame that a full trim of one end must save: a video without motion is used whole."""


def loop_range(
    landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], change: npt.NDArray[np.float32], fps: float
) -> tuple[int, int]:
    """Returns the half-open range of frames to use: both ends have little motion and show a face.

    `landmarks` is [n, 468, 2], `usable` [n], `change` [n] as SourceScan.frame_change. Where a forwards and backwards
    loop turns, all motion reverses at once, so a turn near rest is less visible.
    """
    n = len(usable)
    max_trim = min(int(n * MAX_TRIM_SHARE), round(MAX_TRIM_S * fps))
    if n <= MIN_DURATION_S * fps or max_trim < 1 or not usable.any():
        return 0, n
    motion = _motion(landmarks, usable, change)
    cost = _TRIM_COST * np.arange(max_trim + 1) / max_trim
    start = int((motion[: max_trim + 1] + cost).argmin())
    stop = n - int((motion[::-1][: max_trim + 1] + cost).argmin())
    return start, stop


def _motion(
    landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], change: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Returns [n] motion around each frame in face widths per frame, with a penalty for frames without a face."""
    width = float(np.median(np.ptp(landmarks[usable][:, :, 0], axis=1)))
    steps = np.linalg.norm(np.diff(landmarks, axis=0), axis=2).mean(1) / max(width, 1e-6)
    steps = np.where(usable[1:] & usable[:-1], steps, _NO_FACE_MOTION) + _BODY_WEIGHT * change[1:]
    padded = np.pad(steps, (_NEIGHBOURS, _NEIGHBOURS), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS).mean(1)
    return np.asarray(mean + np.where(usable, 0, _NO_FACE_MOTION), np.float64)
