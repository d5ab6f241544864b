"""Synthetic teeth, gums and tongue: small textures in mouth units, computed once by formula, used by inner_mouth.py."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating]
TeethTexture = npt.NDArray[np.float32]
"""[h, w, 4] float32 BGR times alpha, and alpha 0..255."""

TEXTURE_PX = 160
"""Pixels of a texture per mouth unit."""
HALF_WIDTH, HALF_HEIGHT = 0.62, 0.34
"""Half the size of a texture in mouth units; the biting edge is the middle row."""

UPPER_TEETH = ((0.132, 0.0), (0.1, -0.014), (0.088, -0.002), (0.066, -0.016), (0.05, -0.022), (0.05, -0.03))
LOWER_TEETH = ((0.078, 0.0), (0.084, 0.002), (0.084, -0.004), (0.07, 0.006), (0.06, 0.01), (0.05, 0.01))
"""Width of each tooth and step of the biting edge (down is positive), from the middle outwards, in mouth units."""
GUM_BGR = np.array([92, 88, 150], np.float32)
TONGUE_BGR = np.array([88, 84, 158], np.float32)
TOOTH_BGR = np.array([196, 212, 222], np.float32)
"""BGR in good light."""


@cache
def synthetic_teeth(up: bool, blur: int) -> TeethTexture:
    """Returns the texture of the upper or the lower teeth, smoothed by a Gaussian of `blur` pixels."""
    fine = 4
    width, height = (round(2 * reach * TEXTURE_PX) for reach in (HALF_WIDTH, HALF_HEIGHT))
    x = ((np.arange(width * fine) + 0.5) / (TEXTURE_PX * fine) - HALF_WIDTH).astype(np.float32)
    y = ((np.arange(height * fine) + 0.5) / (TEXTURE_PX * fine) - HALF_HEIGHT).astype(np.float32)[:, None]
    alpha, bright, gum = _tooth_row(up, np.abs(x), y if up else -y)
    side = (1 - 0.8 * np.clip(np.abs(x) / 0.46, 0, 1) ** 2)[None]
    colour: _Array = TOOTH_BGR * ((0.9 if up else 0.55) * side * bright)[..., None]
    if not up:
        colour, alpha = _over(*_tongue(x, y), colour, alpha)
    colour, alpha = _over(colour, alpha, GUM_BGR * (0.7 * side)[..., None], gum)
    texture = np.concatenate([colour * alpha[..., None], 255 * alpha[..., None]], -1).astype(np.float32)
    small = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), blur) if blur else small, np.float32)


def _tooth_row(up: bool, x: _Array, y: _Array) -> tuple[_Array, _Array, _Array]:
    """Returns alpha and brightness of the teeth, and alpha of the gum; y grows towards the biting edge."""
    alpha = np.zeros((y.size, x.size), np.float32)
    bright = np.zeros_like(alpha)
    start = 0.0
    softness = 0.006
    rounding = 0.02 if up else 0.008
    for width, step in UPPER_TEETH if up else LOWER_TEETH:
        t = (x - start - width / 2) / (width / 2)
        edge = step - rounding * np.abs(t) ** 4
        inside = np.clip((edge - y) / softness + 0.5, 0, 1) * (np.abs(t) <= 1)
        rounded = 1 - 0.13 * np.abs(t) ** 3 - 0.14 * np.clip(np.abs(t) * 6 - 5, 0, 1)
        upright = 1 - 0.25 * np.clip((edge - y - 0.08) / 0.1, 0, 1) - 0.12 * np.clip(1 - (edge - y) / 0.02, 0, 1)
        alpha = np.maximum(alpha, inside)
        bright = np.where(np.abs(t) <= 1, rounded * upright, bright)
        start += width
    gum = np.clip((-0.17 - y + 0.02 * np.cos(x * 50)) / 0.01, 0, 1) * (x < start)
    return alpha, bright, gum


def _over(colour: _Array, alpha: _Array, top: _Array, top_alpha: _Array) -> tuple[_Array, _Array]:
    """Composites `top` over `colour`, both with straight alpha. The colour is undefined where the total alpha is 0."""
    total = top_alpha + alpha * (1 - top_alpha)
    mixed = top * top_alpha[..., None] + colour * (alpha * (1 - top_alpha))[..., None]
    return mixed / np.maximum(total, 1e-6)[..., None], total


def _tongue(x: _Array, y: _Array) -> tuple[_Array, _Array]:
    """Returns colour and alpha of the tongue: a low mound above the lower teeth with a furrow in the middle."""
    mound = -0.1 * np.sqrt(np.clip(1 - (x / 0.34) ** 2, 0, 1)) - 0.004
    alpha = np.clip((y - mound) / 0.035, 0, 1) * np.clip((0.34 - np.abs(x)) / 0.1, 0, 1) * (y < 0.03)
    shade = np.clip(0.42 + 5.5 * (y - mound), 0.42, 0.92) * (1 - 0.1 * np.exp(-((x / 0.025) ** 2)))
    return TONGUE_BGR * shade[..., None], np.asarray(alpha, np.float32)
