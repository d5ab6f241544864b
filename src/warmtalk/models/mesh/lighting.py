"""Light on a face, measured on the cheeks, and the share of that light inside the mouth."""

from __future__ import annotations

import numpy as np

from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.mesh.landmark_measures import Field

CHEEKS = (50, 101, 36, 205, 280, 330, 266, 425)
"""Mesh points on the cheeks, outside the beard area."""
REFERENCE_BRIGHTNESS = 165.0
"""Brightness of a cheek in good light."""
CHEEK_TINT = np.array([0.75, 0.94, 1.24], np.float32)
"""BGR of skin in white light, for brightness 1."""

SHADE_TINT = np.array([1.45, 1.33, 0.8], np.float32)
"""Exponent of the shading in each BGR channel: red flesh lights the shadows in a mouth."""


def cheek_color(image: Image, pixels: Field) -> Field:
    """Returns [3] BGR of the cheeks in the 256 x 256 `image`; `pixels` are landmarks in that image."""
    points = np.clip(np.round(pixels[list(CHEEKS)]).astype(np.int32), 1, FACE_SIZE - 2)
    return np.asarray(np.median([image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)) for x, y in points], 0), np.float32)


def light_gain(cheek: Field) -> Field:
    """Returns [3] gain of each channel relative to good light.

    Half of the darkness of a cheek is attributed to dark skin and half to dim light, because teeth follow the light
    alone. The same rule applies to the tint.
    """
    level = float(cheek @ np.array([0.114, 0.587, 0.299]))
    gain = np.clip(0.45 + 0.55 * level / REFERENCE_BRIGHTNESS, 0.35, 1.12)
    tint = np.clip(cheek / max(level, 1.0) / CHEEK_TINT, 0.7, 1.4) ** 0.6
    return np.asarray(gain * tint, np.float32)


def opening_light(opening: float, rounding: float = 0.0) -> float:
    """Returns the share of the light that enters the mouth; smaller for a narrow or a rounded opening."""
    return 0.45 + 0.55 * min(opening * (1 - 0.6 * rounding) / 0.15, 1.0)
