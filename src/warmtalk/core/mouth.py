"""Shape of a speaking mouth in four numbers: output of the embedded speech encoder, input of the mesh renderer.

A row of features is float32 [4] in the order of the fields of MouthShape. Lengths are in units of the distance between
the eye centres (about 63 mm on an adult), so that the same numbers fit every face and every image size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmtalk.core.types import Features

OPENING, WIDTH, PROTRUSION, PRESS = range(4)
"""Column indices of a features array."""
MOUTH_FEATURES = 4
"""Columns of a features array."""
MIN_SHAPE = np.array([0.0, -0.25, 0.0, 0.0], np.float32)
MAX_SHAPE = np.array([0.45, 0.15, 1.0, 1.0], np.float32)
"""Range of each column; a renderer clips features to the range."""


@dataclass(frozen=True, slots=True)
class MouthShape:
    """Mouth shape of one frame; the defaults are a closed mouth at rest."""

    opening: float = 0.0
    """Gap between the inner lips / eye distance. 0 closed, speech 0.05 to 0.25, at most 0.45.
    Absolute, not relative to the mouth of the source frame."""
    width: float = 0.0
    """Change of the mouth-corner distance against the avatar's rest width. -0.25 "oo" to +0.15 "ee"."""
    protrusion: float = 0.0
    """0 to 1: lips rounded and pushed forward ("oo", "sh")."""
    press: float = 0.0
    """0 to 1: lips pressed together ("m", "b", "p"). No effect on an open mouth."""


def to_features(*shapes: MouthShape) -> Features:
    """Returns [len(shapes), 4] float32, clipped to the range of each column."""
    rows = [(shape.opening, shape.width, shape.protrusion, shape.press) for shape in shapes]
    return np.clip(np.array(rows, np.float32).reshape(-1, MOUTH_FEATURES), MIN_SHAPE, MAX_SHAPE)
