"""Teeth of a source that always shows teeth: where the teeth are visible, where they end, and their colour."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.mesh.landmark_measures import Field
from warmtalk.models.mesh.shape import (
    LOWER_EDGE,
    OPENING_PROFILE,
    TABLE_REACH,
    TABLE_SIZE,
    UPPER_EDGE,
    FaceShape,
    interpolate_curves,
)
from warmtalk.models.mesh.teeth import TOOTH_BGR


def own_teeth_mask(face: FaceShape, weight: float) -> npt.NDArray[np.uint8]:
    """Returns [256 - top, 256] the visible teeth of the source, at most 255 * `weight`.

    The mask leaves out the edges of the lips and the corners of the mouth.
    """
    curve = interpolate_curves(face.table, face.x)
    edges = face.y - curve[..., UPPER_EDGE], curve[..., LOWER_EDGE] - face.y
    fields = np.stack([*edges, curve[..., OPENING_PROFILE]], -1)
    fine = cv2.resize(fields, (FACE_SIZE, FACE_SIZE - face.top), interpolation=cv2.INTER_LINEAR)
    below, above, profile = cv2.split(fine)
    slope = face.mouth_frame.down_px / 1.5
    inside = np.clip(below * slope - 0.7, 0, 1) * np.clip(above * slope - 1.5, 0, 1) * np.clip(profile * 4 - 1.4, 0, 1)
    return np.asarray(np.round(inside * weight * 255), np.uint8)


def fit_bite(face: FaceShape) -> tuple[float, float]:
    """Returns bite and bend (see InnerMouth) of synthetic teeth that end with the source teeth: at the lower lip."""
    x = np.linspace(-TABLE_REACH, TABLE_REACH, TABLE_SIZE) - face.middle_x
    near = np.abs(x) < 0.3
    bend, _, bite = np.polyfit(x[near], face.table[LOWER_EDGE][near], 2)
    return float(bite), float(np.clip(bend, -0.6, 0.2))


def own_teeth_gain(lower: Image, mask: npt.NDArray[np.uint8], default: Field) -> Field:
    """Returns the gain [3] that gives synthetic teeth the colour of the source teeth.

    `lower` are the face rows of `mask`. Returns `default` when fewer than 50 pixels of teeth are visible.
    """
    pixels = lower[mask > 200].astype(np.float32)
    if len(pixels) < 50:
        return default
    bright = pixels[pixels[:, 1] >= np.percentile(pixels[:, 1], 60)].mean(0)
    return np.asarray(np.clip(bright / (0.9 * TOOTH_BGR), 0.3, 1.15), np.float32)
