"""Which part of a film is played forth and back, so that its turns are quiet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_LEFT_OUT = 0.1
"""Part of the film that may be left out at each end."""
MOST_LEFT_OUT_S = 2.0
"""And no more than this at each end."""
LEAST_KEPT_S = 2.0
"""Shorter films are used whole."""
_NEAR = 2
"""Frames to either side that count for the motion of a frame."""
_BODY = 0.02
"""Of a grey level of change in the picture, in face widths a frame: what moves beside the face counts too."""
_FACELESS = 1.0
_LOSS = 0.02
"""Face widths a frame that each whole end left out must gain: a film that is quiet all the time is used whole."""


def loop_range(
    landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], change: npt.NDArray[np.float32], fps: float
) -> tuple[int, int]:
    """Half-open range of the frames to use: at both ends little moves, and there is a face.

    `landmarks` [n, 468, 2], `usable` [n], `change` [n] as in scan.Scan. At the turn of a forth-and-back loop all
    motion is thrown back at once, so the nearer to rest it turns, the less it is seen.
    """
    n = len(usable)
    most = min(int(n * MOST_LEFT_OUT), round(MOST_LEFT_OUT_S * fps))
    if n <= LEAST_KEPT_S * fps or most < 1 or not usable.any():
        return 0, n
    motion = _motion(landmarks, usable, change)
    loss = _LOSS * np.arange(most + 1) / most
    start = int((motion[: most + 1] + loss).argmin())
    stop = n - int((motion[::-1][: most + 1] + loss).argmin())
    return start, stop


def _motion(
    landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], change: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """[n] motion about each frame in face widths a frame, and more where there is no face."""
    width = float(np.median(np.ptp(landmarks[usable][:, :, 0], axis=1)))
    steps = np.linalg.norm(np.diff(landmarks, axis=0), axis=2).mean(1) / max(width, 1e-6)
    steps = np.where(usable[1:] & usable[:-1], steps, _FACELESS) + _BODY * change[1:]
    padded = np.pad(steps, (_NEAR, _NEAR), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEAR).mean(1)
    return np.asarray(around + np.where(usable, 0, _FACELESS), np.float64)
