"""What light falls on a face, read from its cheeks, and how much of it comes into the mouth."""

from __future__ import annotations

import numpy as np

from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.mesh.shape import Field

CHEEKS = (50, 101, 36, 205, 280, 330, 266, 425)
"""Mesh points on the cheeks, free of beard."""
LIT_CHEEK = 165.0
"""Brightness of a cheek in good light."""
CHEEK_TINT = np.array([0.75, 0.94, 1.24], np.float32)
"""BGR of skin in white light, for brightness 1."""

SHADE_TINT = np.array([1.45, 1.33, 0.8], np.float32)
"""Shadow in a mouth is lit by red flesh: per channel the exponent of the shade."""


def cheek_of(picture: Image, pixels: Field) -> Field:
    """[3] BGR of the cheeks in the 256 x 256 `picture`; `pixels` are its landmarks."""
    places = np.clip(np.round(pixels[list(CHEEKS)]).astype(np.int32), 1, FACE_SIZE - 2)
    return np.asarray(np.median([picture[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)) for x, y in places], 0), np.float32)


def light_on(cheek: Field) -> Field:
    """[3] gain of each channel against good light. Half of a dark cheek is dark skin, the other half dim light: teeth
    follow only the light. So with its tint."""
    level = float(cheek @ np.array([0.114, 0.587, 0.299]))
    gain = np.clip(0.45 + 0.55 * level / LIT_CHEEK, 0.35, 1.12)
    tint = np.clip(cheek / max(level, 1.0) / CHEEK_TINT, 0.7, 1.4) ** 0.6
    return np.asarray(gain * tint, np.float32)


def light_through(opening: float, round_: float = 0.0) -> float:
    """Share of the light that comes through a gap: less through a narrow or a rounded one."""
    return 0.45 + 0.55 * min(opening * (1 - 0.6 * round_) / 0.15, 1.0)
