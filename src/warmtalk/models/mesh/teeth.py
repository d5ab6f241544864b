"""Teeth, gums and tongue as small pictures in mouth units, drawn once by formula. See mouth.py for their use."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating]

PICTURE_PX = 160
"""Pixels of a drawn picture per mouth unit."""
REACH_X, REACH_Y = 0.62, 0.34
"""Half the size of a drawn picture in mouth units; the biting edge is its middle row."""

UPPER_TEETH = ((0.132, 0.0), (0.1, -0.014), (0.088, -0.002), (0.066, -0.016), (0.05, -0.022), (0.05, -0.03))
LOWER_TEETH = ((0.078, 0.0), (0.084, 0.002), (0.084, -0.004), (0.07, 0.006), (0.06, 0.01), (0.05, 0.01))
"""Width and step of the biting edge (down is plus), from the middle outwards, in mouth units."""
GUM = np.array([92, 88, 150], np.float32)
TONGUE = np.array([88, 84, 158], np.float32)
TOOTH = np.array([196, 212, 222], np.float32)
"""BGR in good light."""


@cache
def teeth_picture(up: bool, blur: int) -> npt.NDArray[np.float32]:
    """[h, w, 4] float32 BGR times alpha, and alpha 0..255, of the upper or lower teeth, softened by `blur` pixels."""
    fine = 4
    width, height = (round(2 * reach * PICTURE_PX) for reach in (REACH_X, REACH_Y))
    x = ((np.arange(width * fine) + 0.5) / (PICTURE_PX * fine) - REACH_X).astype(np.float32)
    y = ((np.arange(height * fine) + 0.5) / (PICTURE_PX * fine) - REACH_Y).astype(np.float32)[:, None]
    alpha, bright, gum = _row_of_teeth(up, np.abs(x), y if up else -y)
    side = (1 - 0.8 * np.clip(np.abs(x) / 0.46, 0, 1) ** 2)[None]
    colour: _Array = TOOTH * ((0.9 if up else 0.55) * side * bright)[..., None]
    if not up:
        colour, alpha = _over(*_tongue(x, y), colour, alpha)
    colour, alpha = _over(colour, alpha, GUM * (0.7 * side)[..., None], gum)
    picture = np.concatenate([colour * alpha[..., None], 255 * alpha[..., None]], -1).astype(np.float32)
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), blur) if blur else small, np.float32)


def _row_of_teeth(up: bool, x: _Array, y: _Array) -> tuple[_Array, _Array, _Array]:
    """Cover and brightness of the teeth, and cover of the gum above them; y grows towards the biting edge."""
    cover = np.zeros((y.size, x.size), np.float32)
    bright = np.zeros_like(cover)
    start = 0.0
    soft = 0.006
    rounding = 0.02 if up else 0.008
    for width, step in UPPER_TEETH if up else LOWER_TEETH:
        t = (x - start - width / 2) / (width / 2)
        edge = step - rounding * np.abs(t) ** 4
        inside = np.clip((edge - y) / soft + 0.5, 0, 1) * (np.abs(t) <= 1)
        round_ = 1 - 0.13 * np.abs(t) ** 3 - 0.14 * np.clip(np.abs(t) * 6 - 5, 0, 1)
        upright = 1 - 0.25 * np.clip((edge - y - 0.08) / 0.1, 0, 1) - 0.12 * np.clip(1 - (edge - y) / 0.02, 0, 1)
        cover = np.maximum(cover, inside)
        bright = np.where(np.abs(t) <= 1, round_ * upright, bright)
        start += width
    gum = np.clip((-0.17 - y + 0.02 * np.cos(x * 50)) / 0.01, 0, 1) * (x < start)
    return cover, bright, gum


def _over(colour: _Array, alpha: _Array, top: _Array, top_alpha: _Array) -> tuple[_Array, _Array]:
    """`top` over `colour`, both with straight alpha; where neither covers, the colour does not matter."""
    total = top_alpha + alpha * (1 - top_alpha)
    mixed = top * top_alpha[..., None] + colour * (alpha * (1 - top_alpha))[..., None]
    return mixed / np.maximum(total, 1e-6)[..., None], total


def _tongue(x: _Array, y: _Array) -> tuple[_Array, _Array]:
    """A low mound that looks over the lower teeth, with a furrow in the middle."""
    mound = -0.1 * np.sqrt(np.clip(1 - (x / 0.34) ** 2, 0, 1)) - 0.004
    cover = np.clip((y - mound) / 0.035, 0, 1) * np.clip((0.34 - np.abs(x)) / 0.1, 0, 1) * (y < 0.03)
    shade = np.clip(0.42 + 5.5 * (y - mound), 0.42, 0.92) * (1 - 0.1 * np.exp(-((x / 0.025) ** 2)))
    return TONGUE * shade[..., None], np.asarray(cover, np.float32)
