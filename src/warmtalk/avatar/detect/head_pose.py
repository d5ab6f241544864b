"""Head pose from the face mesh, in closed form and without camera parameters."""

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
"""Mesh points that speech does not move, with their coordinates in MediaPipe's canonical face (Apache-2.0):
centimetres, x to the viewer's right, y up, z towards the viewer."""
_POINTS = list(_RIGID)
_MODEL = np.array(list(_RIGID.values()))
_FIT = np.linalg.pinv(_MODEL - _MODEL.mean(0))


@dataclass(frozen=True, slots=True)
class Pose:
    """Head angles in degrees, all 0 for a face that looks straight at the camera.

    Accurate to about 5 degrees up to 45 degrees. Beyond 45 degrees the mesh flattens the face and the angles are
    underestimated.
    """

    yaw: float
    """Positive: the nose points to the right of the image."""
    pitch: float
    """Positive: the nose points up."""
    roll: float
    """Positive: the head is rotated clockwise in the image, -180 to 180."""


def estimate_pose(mesh: Points) -> Pose:
    """Returns the pose of [468, 2] mesh points by a weak-perspective fit.

    The best linear map from the canonical face to the image is reduced to the nearest rotation, and the rotation is
    decomposed as roll, then yaw, then pitch.
    """
    points = mesh[_POINTS].astype(np.float64) * (1, -1)
    rows = (_FIT @ (points - points.mean(0))).T
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    first, second = left @ right
    rotation: npt.NDArray[np.float64] = np.stack([first, second, np.cross(first, second)])
    return Pose(
        yaw=float(np.degrees(np.arcsin(np.clip(-rotation[2, 0], -1, 1)))),
        pitch=float(np.degrees(np.arctan2(-rotation[2, 1], rotation[2, 2]))),
        roll=float(np.degrees(np.arctan2(-rotation[1, 0], rotation[0, 0]))),
    )
