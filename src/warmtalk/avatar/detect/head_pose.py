"""Which way a head looks, by its face mesh: closed form, no camera to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Points

# fmt: off
_RIGID = {
    10: (0.0, 8.262, 4.482), 151: (0.0, 6.545, 5.027), 9: (0.0, 4.886, 5.385), 168: (0.0, 3.271, 5.236),
    6: (0.0, 2.473, 5.789), 197: (0.0, 1.728, 6.317), 195: (0.0, 1.059, 6.775), 5: (0.0, 0.366, 7.243),
    4: (0.0, -0.463, 7.587), 33: (-4.466, 2.423, 3.155), 263: (4.466, 2.423, 3.155), 133: (-1.856, 2.585, 3.758),
    362: (1.856, 2.585, 3.758), 127: (-7.743, 2.365, -2.005), 356: (7.743, 2.365, -2.005),
    234: (-7.664, 0.673, -2.436), 454: (7.664, 0.673, -2.436), 54: (-5.133, 7.486, 2.660), 284: (5.133, 7.486, 2.660),
}
# fmt: on
"""Mesh points that speech does not move, in the canonical face of MediaPipe (Apache-2.0): centimetres, x to the
viewer's right, y up, z to the viewer."""
_POINTS = list(_RIGID)
_MODEL = np.array(list(_RIGID.values()))
_FIT = np.linalg.pinv(_MODEL - _MODEL.mean(0))


@dataclass(frozen=True, slots=True)
class Pose:
    """Degrees, all 0 for a face that looks straight at the camera. Good to some 5 degrees up to 45; beyond, the mesh
    itself flattens the face and the angles come out small.
    """

    yaw: float
    """Positive: the nose points to the right of the picture."""
    pitch: float
    """Positive: the nose points up."""
    roll: float
    """Positive: the head is turned clockwise in the picture, -180 to 180."""


def pose_of(mesh: Points) -> Pose:
    """Of [468, 2] mesh points. A weak-perspective fit: the best linear map of the canonical face to the picture, its
    nearest rotation, taken apart as roll, then yaw, then pitch.
    """
    seen = mesh[_POINTS].astype(np.float64) * (1, -1)
    rows = (_FIT @ (seen - seen.mean(0))).T
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    first, second = left @ right
    turn: npt.NDArray[np.float64] = np.stack([first, second, np.cross(first, second)])
    return Pose(
        yaw=float(np.degrees(np.arcsin(np.clip(-turn[2, 0], -1, 1)))),
        pitch=float(np.degrees(np.arctan2(-turn[2, 1], turn[2, 2]))),
        roll=float(np.degrees(np.arctan2(-turn[1, 0], turn[0, 0]))),
    )
