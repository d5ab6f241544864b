"""How a head moved between two frames, to a few hundredths of a pixel, by what does not move in it.

A detector finds each frame's points anew and trembles by parts of a pixel. Pictures do not tremble: Lucas and Kanade's
tracking of brows, eyes and nose from one frame to the one before says how the head really moved.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68
from warmtalk.core.types import Box, Image, Points

Motion = npt.NDArray[np.float32]
"""[2, 3] turn, scale and shift from pixels of this frame to those of the frame before; NaN where it is not known."""

UNKNOWN: Motion = np.full((2, 3), np.nan, np.float32)
_STABLE = IBUG_68[17:48]
"""Brows, nose and eyes: they go with the head, whatever the mouth does. A blink is left out as an outlier."""
_SIDE = 256
"""A larger face is looked at in this size."""
_ROOM = 0.25
"""Of the face's size, what is seen around it: no head moves further within a frame."""
_WINDOW, _LEVELS = (21, 21), 3
_THERE_AND_BACK = _INLIER = 0.5
"""Pixels. A point that does not find back to where it started, or goes another way than the rest, is not used."""
_LEAST_POINTS = 10


def head_motion(now: Image, before: Image, landmarks: Points) -> Motion:
    """`landmarks` are the [468, 2] mesh of the face in `now`. About 2 ms."""
    low, high = landmarks.min(0), landmarks.max(0)
    size = float((high - low).max())
    area = Box(*np.rint([*(low - _ROOM * size), *(high + _ROOM * size)]).astype(int).tolist())
    area = area.clipped(now.shape[1], now.shape[0])
    if now.shape != before.shape or min(area.width, area.height) < _WINDOW[0]:
        return UNKNOWN
    scale = min(1.0, _SIDE / size)
    points = ((landmarks[_STABLE] - (area.x1, area.y1) + 0.5) * scale - 0.5).astype(np.float32)
    here, there = _grey(now, area, scale), _grey(before, area, scale)
    moved, found = _tracked(here, there, points)
    back, again = _tracked(there, here, moved)
    good = found & again & (np.linalg.norm(back - points, axis=1) < _THERE_AND_BACK)
    if good.sum() < _LEAST_POINTS:
        return UNKNOWN
    similarity, inliers = cv2.estimateAffinePartial2D(points[good], moved[good], ransacReprojThreshold=_INLIER)
    if similarity is None or inliers.sum() < _LEAST_POINTS:
        return UNKNOWN
    # Back to pixels of the frame: from them to the looked-at picture, through the motion, and back.
    offset = (0.5 - np.array([area.x1, area.y1])) * scale - 0.5
    linear = similarity[:, :2]
    shift = (linear @ offset + similarity[:, 2] - offset) / scale
    return np.hstack([linear, shift[:, None]]).astype(np.float32)


def _grey(image: Image, area: Box, scale: float) -> Image:
    grey = cv2.cvtColor(image[area.y1 : area.y2, area.x1 : area.x2], cv2.COLOR_BGR2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _tracked(here: Image, there: Image, points: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 20, 0.01)
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        here, there, points, np.empty_like(points), winSize=_WINDOW, maxLevel=_LEVELS, criteria=criteria
    )
    return np.asarray(found, np.float32), status[:, 0] == 1
