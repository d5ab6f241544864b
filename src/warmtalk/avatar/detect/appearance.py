"""Measurements on the pixels of one face: sharpness, exposure, and colours at fixed points of the face mesh."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image, Points

# fmt: off
_MOUTH = (
    164, 167, 393, 165, 391, 92, 322, 186, 410, 57, 287, 43, 273, 106, 335, 182, 406, 83, 313, 18, 200, 199, 194, 418,
    37, 0, 267, 84, 17, 314,  # skin of the lips only: the inside of the mouth changes with speech
)
_UPPER_FACE = (
    151, 9, 108, 337, 69, 299, 104, 333, 50, 280, 117, 346, 101, 330, 205, 425, 5, 195, 105, 334, 159, 386, 234, 454,
)
# fmt: on
_MESH_POINTS = list(_MOUTH + _UPPER_FACE)
SAMPLE_POINTS, MOUTH_POINTS = len(_MESH_POINTS), len(_MOUTH)
"""Number of sampled mesh points, and number of those around the mouth, which come first."""
_SIDE = 128
_BLUR = 5
_LAB_WEIGHTS = np.array([0.5, 1, 1], np.float32)
_OCCLUDED_DISTANCE = 14.0
"""A colour at least this far from the usual colour of its point belongs to another object. Unit: 8-bit Lab with the
lightness halved."""
_OCCLUDED_SPREADS = 5.0
"""Multiple of a point's median deviation that counts as occluded, where the product is larger than the distance above.
Covers points that vary by themselves, such as the edge of a beard or a shadow."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceAppearance:
    """Pixel measurements of one face in one frame."""

    sharpness: float
    """Variance of the Laplacian of the face, resized to 128 x 128."""
    exposure: float
    """Median brightness of the face, 0 to 1."""
    colours: npt.NDArray[np.uint8]
    """[54, 3] 8-bit Lab at fixed mesh points, the points around the mouth first."""


def measure_appearance(image: Image, mesh: Points) -> FaceAppearance:
    """Returns the measurements for a [H, W, 3] BGR image and [468, 2] mesh points; zeros for a face outside."""
    low, high = mesh.min(0).astype(int), mesh.max(0).astype(int)
    box = Box(*low.tolist(), *high.tolist()).clipped(image.shape[1], image.shape[0])
    if box.empty:
        return FaceAppearance(0.0, 0.0, np.zeros((SAMPLE_POINTS, 3), np.uint8))
    face = cv2.resize(image[box.y1 : box.y2, box.x1 : box.x2], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)
    lab = np.asarray(cv2.cvtColor(cv2.blur(face, (_BLUR, _BLUR)), cv2.COLOR_BGR2LAB), np.uint8)
    positions = (mesh[_MESH_POINTS] - (box.x1, box.y1)) * (_SIDE / box.width, _SIDE / box.height)
    x, y = np.clip(positions, 0, _SIDE - 1).astype(int).T
    return FaceAppearance(float(cv2.Laplacian(grey, cv2.CV_32F).var()), float(np.median(grey)) / 255, lab[y, x])


def occlusion(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Returns [n] the estimated share of the mouth's surroundings that an object covers.

    `colours` is [n, 54, 3], one person over time. The estimate uses colour alone: it counts the points around the
    mouth that differ from their usual colour, after the light on the upper face has been subtracted. Detected: a
    microphone, a cup, a sleeve, a hand that hides the lips. Not detected: an object that is present in every frame,
    and a still hand of the same colour as the lips.
    """
    if not len(colours):
        return np.zeros(0, np.float32)
    lab = colours.astype(np.float32) * _LAB_WEIGHTS
    deviation = lab - np.median(lab, axis=0)
    deviation -= np.median(deviation[:, MOUTH_POINTS:], axis=1, keepdims=True)
    distance = np.linalg.norm(deviation[:, :MOUTH_POINTS], axis=2)
    limit = np.maximum(_OCCLUDED_DISTANCE, _OCCLUDED_SPREADS * np.median(distance, axis=0))
    return np.asarray((distance > limit).mean(1), np.float32)


def colour_distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Returns the mean colour distance of two faces by their [54, 3] colours, without the overall light.

    About 2 for one person in two frames, 8 and more for two persons.
    """
    deviation = (a - b) * _LAB_WEIGHTS
    deviation[:, 0] -= np.median(deviation[:, 0])
    return float(np.linalg.norm(deviation, axis=1).mean())
