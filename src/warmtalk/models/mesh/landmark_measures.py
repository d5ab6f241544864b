"""Distances between landmarks of the face mesh, relative to the eye distance, so that the size of the face cancels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Points

Field = npt.NDArray[np.float32]

# Point lists of MediaPipe's canonical face mesh (Apache-2.0), from the left of the image to the right.
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
EYES = ((33, 133), (362, 263))
NOSE_TIP, NOSE_BASE, CHIN = 4, 2, 152


def eye_center(landmarks: Points, side: int) -> Field:
    """Returns the centre of one eye in pixels; `side` 0 is left in the image. [..., 468, 2] gives [..., 2]."""
    return np.asarray(landmarks[..., EYES[side], :].mean(-2), np.float32)


def eye_distance(landmarks: Points) -> Field:
    """Returns the distance of the eye centres in pixels, never 0; [..., 468, 2] gives [...]."""
    distance = np.linalg.norm(eye_center(landmarks, 1) - eye_center(landmarks, 0), axis=-1)
    return np.asarray(np.maximum(distance, 1e-3), np.float32)


def lip_gap(landmarks: Points) -> Field:
    """Returns gap of the inner lips / eye distance; [..., 468, 2] gives [...]."""
    gaps = landmarks[..., INNER_LOWER[4:7], :] - landmarks[..., INNER_UPPER[4:7], :]
    return np.asarray(np.linalg.norm(gaps.mean(-2), axis=-1) / eye_distance(landmarks), np.float32)


def mouth_width(landmarks: Points) -> Field:
    """Returns distance of the mouth corners / eye distance; [..., 468, 2] gives [...]."""
    corners = landmarks[..., 291, :] - landmarks[..., 61, :]
    return np.asarray(np.linalg.norm(corners, axis=-1) / eye_distance(landmarks), np.float32)


def lip_thickness(landmarks: Points) -> Field:
    """Returns height of both lips in the middle / eye distance; [..., 468, 2] gives [...]."""
    heights = [np.linalg.norm(landmarks[..., a, :] - landmarks[..., b, :], axis=-1) for a, b in ((0, 13), (14, 17))]
    return np.asarray(sum(heights) / eye_distance(landmarks), np.float32)


def lip_drop(landmarks: Points) -> Field:
    """Returns distance down from the base of the nose to the middle of the lips / eye distance.

    [..., 468, 2] gives [...].
    """
    across = eye_center(landmarks, 1) - eye_center(landmarks, 0)
    down = np.stack([-across[..., 1], across[..., 0]], -1) / eye_distance(landmarks)[..., None]
    lips = (landmarks[..., INNER_UPPER[5], :] + landmarks[..., INNER_LOWER[5], :]) / 2
    return np.asarray(((lips - landmarks[..., NOSE_BASE, :]) * down).sum(-1) / eye_distance(landmarks), np.float32)
