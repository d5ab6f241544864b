"""Head motion between two frames, accurate to a few hundredths of a pixel, from the rigid parts of the face.

A detector places the points of each frame independently and jitters by fractions of a pixel. The pixels themselves do
not jitter: Lucas-Kanade optical flow of brows, eyes and nose from one frame to the previous frame gives the true motion
of the head.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import IBUG_68
from warmtalk.core.types import Box, Image, Points

Motion = npt.NDArray[np.float32]
"""[2, 3] similarity transform (rotation, scale, shift) from pixels of this frame to pixels of the previous frame; NaN
where the motion is unknown."""

UNKNOWN_MOTION: Motion = np.full((2, 3), np.nan, np.float32)
_RIGID_POINTS = IBUG_68[17:48]
"""Brows, nose and eyes move with the head, independently of the mouth. A blink is rejected as an outlier."""
_MAX_SIDE = 256
"""Larger faces are reduced to this size for the optical flow, pixels."""
_MARGIN = 0.25
"""Area around the face that is searched, relative to the face's size: no head moves further within one frame."""
_WINDOW, _LEVELS = (21, 21), 3
_MAX_ROUND_TRIP_PX = _INLIER_PX = 0.5
"""Pixels. A point that does not return to its start when tracked back, or that moves differently from the other points,
is rejected."""
_MIN_POINTS = 10


def head_motion(frame: Image, previous: Image, landmarks: Points) -> Motion:
    """Returns the motion from `frame` to `previous`; `landmarks` are the [468, 2] mesh points of the face in `frame`.

    Takes about 2 ms.
    """
    low, high = landmarks.min(0), landmarks.max(0)
    size = float((high - low).max())
    area = Box(*np.rint([*(low - _MARGIN * size), *(high + _MARGIN * size)]).astype(int).tolist())
    area = area.clipped(frame.shape[1], frame.shape[0])
    if frame.shape != previous.shape or min(area.width, area.height) < _WINDOW[0]:
        return UNKNOWN_MOTION
    scale = min(1.0, _MAX_SIDE / size)
    points = ((landmarks[_RIGID_POINTS] - (area.x1, area.y1) + 0.5) * scale - 0.5).astype(np.float32)
    current_grey, previous_grey = _grey(frame, area, scale), _grey(previous, area, scale)
    moved, tracked = _track(current_grey, previous_grey, points)
    returned, tracked_back = _track(previous_grey, current_grey, moved)
    good = tracked & tracked_back & (np.linalg.norm(returned - points, axis=1) < _MAX_ROUND_TRIP_PX)
    if good.sum() < _MIN_POINTS:
        return UNKNOWN_MOTION
    similarity, inliers = cv2.estimateAffinePartial2D(points[good], moved[good], ransacReprojThreshold=_INLIER_PX)
    if similarity is None or inliers.sum() < _MIN_POINTS:
        return UNKNOWN_MOTION
    # Convert from pixels of the reduced area to pixels of the frame: into the area, through the motion, and back.
    offset = (0.5 - np.array([area.x1, area.y1])) * scale - 0.5
    linear = similarity[:, :2]
    shift = (linear @ offset + similarity[:, 2] - offset) / scale
    return np.hstack([linear, shift[:, None]]).astype(np.float32)


def _grey(image: Image, area: Box, scale: float) -> Image:
    grey = cv2.cvtColor(image[area.y1 : area.y2, area.x1 : area.x2], cv2.COLOR_BGR2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _track(image: Image, target: Image, points: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Returns [n, 2] positions of `points` in `target`, and [n] whether each point was found."""
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 20, 0.01)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        image, target, points, np.empty_like(points), winSize=_WINDOW, maxLevel=_LEVELS, criteria=criteria
    )
    return np.asarray(moved, np.float32), status[:, 0] == 1
