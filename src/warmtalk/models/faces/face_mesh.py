"""Face Mesh: 468 landmarks of one face, from a rotated square region around the face.

The region follows MediaPipe's graph face_landmark_cpu.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Image, Points
from warmtalk.models.faces.network_files import forward, open_network, sigmoid

MESH_POINTS = 468
SIDE = 192
"""Width and height of the network's input, pixels."""
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
"""Mesh points of the outer eye corners; right and left are the person's."""

_Array = npt.NDArray[np.float32]


class FaceMesh:
    """The mesh network. Not thread-safe: cv2.dnn networks reuse their buffers."""

    def __init__(self) -> None:
        """Raises NotReady when the network file is missing or damaged."""
        self._net = open_network("face_landmark.tflite")

    def __call__(self, image: Image, centre: _Array, side: float, eye_axis: _Array) -> tuple[Points, float]:
        """Returns [468, 2] points in image pixels, and the network's confidence, 0..1, that the region shows a face.

        `centre` [2] and `side` of the square region are in image pixels; `eye_axis` [2] points from the person's right
        eye to the left eye. The region may leave the image; the network sees black there.
        """
        matrix = _region_transform(centre, side, float(np.arctan2(eye_axis[1], eye_axis[0])))
        crop = _sample(image, matrix, side)
        outputs = forward(self._net, cv2.dnn.blobFromImage(crop, 1 / 255, swapRB=True))
        flat = next(one for one in outputs if one.size == 3 * MESH_POINTS).reshape(MESH_POINTS, 3)[:, :2]
        points = (flat @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        score = sigmoid(next(one for one in outputs if one.size == 1).ravel())
        return points, float(score[0])


def _region_transform(centre: _Array, side: float, angle: float) -> npt.NDArray[np.float64]:
    """Returns the [2, 3] transform from pixels of the network's input to image pixels."""
    cos, sin = np.cos(angle) * side / SIDE, np.sin(angle) * side / SIDE
    rotation = np.array([[cos, -sin], [sin, cos]])
    shift = centre - rotation @ np.full(2, SIDE / 2)
    return np.concatenate([rotation, shift[:, None]], 1)


def _sample(image: Image, matrix: npt.NDArray[np.float64], side: float) -> Image:
    """Returns the region as the network's input.

    Large regions are sampled at up to 4 times the resolution and averaged, because aliasing makes the points jitter.
    """
    oversampling = int(np.clip(round(side / SIDE), 1, 4))
    finer = matrix * [[1 / oversampling, 1 / oversampling, 1]]
    finer[:, 2] += matrix[:, :2] @ np.full(2, (1 / oversampling - 1) / 2)
    size = (SIDE * oversampling, SIDE * oversampling)
    crop = cv2.warpAffine(image, finer, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    small = crop if oversampling == 1 else cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
