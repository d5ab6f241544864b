"""What the pixels of one face tell: sharpness, exposure, and colours at fixed places of the face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image, Points

# fmt: off
_MOUTH = (
    164, 167, 393, 165, 391, 92, 322, 186, 410, 57, 287, 43, 273, 106, 335, 182, 406, 83, 313, 18, 200, 199, 194, 418,
    37, 0, 267, 84, 17, 314,  # the lips' skin; what is between them comes and goes
)
_UPPER = (
    151, 9, 108, 337, 69, 299, 104, 333, 50, 280, 117, 346, 101, 330, 205, 425, 5, 195, 105, 334, 159, 386, 234, 454,
)
# fmt: on
_PLACES = list(_MOUTH + _UPPER)
PLACES, MOUTH_PLACES = len(_PLACES), len(_MOUTH)
"""Of all places, and of those around the mouth, which come first."""
_SIDE = 128
_BLUR = 5
_WEIGHTS = np.array([0.5, 1, 1], np.float32)
_STRANGE = 14.0
"""A colour so far (in 8-bit Lab, lightness halved) from the usual one of its place is another thing."""
_SPREADS = 5.0
"""Or so many times as far as it usually strays there, if that is more: a beard's edge, a shadow."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceAppearance:
    """One face of one frame."""

    sharpness: float
    """Variance of the Laplacian of the face at 128 x 128."""
    exposure: float
    """Median brightness of the face, 0 to 1."""
    colours: npt.NDArray[np.uint8]
    """[54, 3] 8-bit Lab at fixed places of the face, those around the mouth first."""


def appearance_of(image: Image, mesh: Points) -> FaceAppearance:
    """Of a [H, W, 3] BGR picture and [468, 2] mesh points; zeros where the face lies outside."""
    low, high = mesh.min(0).astype(int), mesh.max(0).astype(int)
    box = Box(*low.tolist(), *high.tolist()).clipped(image.shape[1], image.shape[0])
    if box.empty:
        return FaceAppearance(0.0, 0.0, np.zeros((PLACES, 3), np.uint8))
    face = cv2.resize(image[box.y1 : box.y2, box.x1 : box.x2], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)
    lab = np.asarray(cv2.cvtColor(cv2.blur(face, (_BLUR, _BLUR)), cv2.COLOR_BGR2LAB), np.uint8)
    at = (mesh[_PLACES] - (box.x1, box.y1)) * (_SIDE / box.width, _SIDE / box.height)
    x, y = np.clip(at, 0, _SIDE - 1).astype(int).T
    return FaceAppearance(float(cv2.Laplacian(grey, cv2.CV_32F).var()), float(np.median(grey)) / 255, lab[y, x])


def occlusion(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """[n, 54, 3] colours of one person over time to [n] the part of the mouth's surroundings that something covers.

    An estimate, by colour alone: places around the mouth that differ from what is usual there, after the light on
    the upper face was taken out. It sees a microphone, a cup, a sleeve, and a hand by the lips that it hides; what is
    there all the time, and a hand that is still and of the lips' own colour, it does not see.
    """
    if not len(colours):
        return np.zeros(0, np.float32)
    seen = colours.astype(np.float32) * _WEIGHTS
    away = seen - np.median(seen, axis=0)
    away -= np.median(away[:, MOUTH_PLACES:], axis=1, keepdims=True)
    far = np.linalg.norm(away[:, :MOUTH_PLACES], axis=2)
    limit = np.maximum(_STRANGE, _SPREADS * np.median(far, axis=0))
    return np.asarray((far > limit).mean(1), np.float32)


def difference(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """How unlike two faces are, by their [54, 3] colours without the overall light: about 2 for one person in two
    frames, 8 and more for two people.
    """
    away = (a - b) * _WEIGHTS
    away[:, 0] -= np.median(away[:, 0])
    return float(np.linalg.norm(away, axis=1).mean())
