"""Where the edges of the lips really are: the face mesh is good to some hundredths of the eye distance, and a mouth
that is split beside its own line, or closed over a rest of teeth, is seen at once. So the picture has the last word:
each edge may move and bow a little to where the picture shows it.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Image

Field = npt.NDArray[np.float32]

ACROSS, REACH, STEPS = 33, 0.12, 49
"""Samples along the edge; how far to look to either side, in mouth units, and in how many steps."""
MOVES = np.linspace(-0.07, 0.07, 11, dtype=np.float32)
BOWS = np.linspace(-0.06, 0.06, 7, dtype=np.float32)
TILTS = np.linspace(-0.025, 0.025, 3, dtype=np.float32)
"""What is tried, in mouth units: the whole edge moved, its middle, its ends against each other."""
TRUST = 0.045
"""Standard deviation of the face mesh's error, in mouth units: the prior."""
LIGHT_SHARE = 0.25
"""Weight of a change of brightness, of either sign, against one of redness, which compression blurs."""
SHARPNESS = 0.6
"""How fast a weaker response loses: per grey level."""
NO_LIP = 8.0
"""What an edge loses, in grey levels, that has no lip outside of it."""
OUTSIDE, LIP_AT = 9, 13
"""Steps from an edge to the flesh beside it, and at the end of the samples where there is lip for certain."""
CLOSED_GAP, OPEN_GAP = 0.04, 0.06
"""Gap of the mesh's inner lips below which they touch, and above which they do not; in between, in between."""


def correct_lips(face: Image, upper: Field, lower: Field, to_pixels: tuple[Field, Field]) -> tuple[Field, Field]:
    """The inner edges of both lips, corrected by the picture.

    `upper` and `lower` are [ACROSS, 2] points from corner to corner in mouth units, `to_pixels` the axes [2, 2] and the
    origin [2] of the mouth frame in the 256 x 256 `face`. Returns y of both edges at the same x, [ACROSS] each; they
    coincide where the lips touch, and never cross.
    """
    x = upper[:, 0]
    middle: Field = (upper[:, 1] + lower[:, 1]) / np.float32(2)
    gap = float((lower - upper)[ACROSS // 3 : -ACROSS // 3, 1].mean())
    apart = float(np.clip((gap - CLOSED_GAP) / (OPEN_GAP - CLOSED_GAP), 0, 1))
    closed: Field = middle
    if apart < 1:
        closed = middle + _find_seam(face, np.stack([x, middle], 1), to_pixels)
    if apart == 0:
        return closed, closed.copy()
    # Near the corners the mesh knows better: there is no tooth to see, and the dark there must stay inside.
    inward = np.clip(4 - np.abs(np.linspace(-4, 4, ACROSS, dtype=np.float32)), 0, 1)
    top = upper[:, 1] + _find_lip(face, upper, to_pixels, upper=True) * inward
    low = lower[:, 1] + _find_lip(face, lower, to_pixels, upper=False) * inward
    middle, half = (top + low) / 2, np.maximum(low - top, 0) / 2
    middle = closed + (middle - closed) * apart
    half = half * apart
    return np.asarray(middle - half, np.float32), np.asarray(middle + half, np.float32)


def _find_seam(face: Image, line: Field, to_pixels: tuple[Field, Field]) -> Field:
    """[ACROSS] shifts down that bring the line between closed lips to the dark line in the picture."""
    grey = cv2.cvtColor(_around(face, line, to_pixels), cv2.COLOR_BGR2GRAY).astype(np.float32)
    wide, narrow = (cv2.GaussianBlur(grey, (0, 0), sigmaX=1.5, sigmaY=sigma) for sigma in (7, 2))
    return _best(np.asarray(wide - narrow, np.float32))


def _find_lip(face: Image, line: Field, to_pixels: tuple[Field, Field], *, upper: bool) -> Field:
    """[ACROSS] shifts down that bring a lip's inner edge to where red flesh meets teeth or the dark behind them."""
    patch = _around(face, line, to_pixels)
    lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB).astype(np.float32)
    light, red = _slope(lab[..., 0]), _slope(lab[..., 1])
    edge = (-red if upper else red) + LIGHT_SHARE * np.abs(light)
    return _best(np.asarray(edge - NO_LIP * _unlike_lip(lab, upper), np.float32))


def _unlike_lip(lab: Field, upper: bool) -> Field:
    """[STEPS, ACROSS] 0..1 how unlike the lip it is just outside of an edge here: an edge between a tooth and the dark
    is as sharp as that of a lip."""
    soft = cv2.GaussianBlur(lab, (0, 0), sigmaX=1.5, sigmaY=2)
    outer = soft[:LIP_AT] if upper else soft[-LIP_AT:]
    lip = np.median(outer, axis=0)
    outside = np.roll(soft, OUTSIDE if upper else -OUTSIDE, axis=0)
    apart = np.abs(outside - lip)[..., :2] @ np.array([1.0, 2.0], np.float32)
    return np.asarray(np.clip((apart - 45) / 40, 0, 1), np.float32)


def _slope(channel: Field) -> Field:
    """Change down the patch, in grey levels over eight steps."""
    soft = cv2.GaussianBlur(channel, (0, 0), sigmaX=1.5, sigmaY=2)
    return np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3), np.float32)


def _around(face: Image, line: Field, to_pixels: tuple[Field, Field]) -> Image:
    """[STEPS, ACROSS, 3] the picture along the line, STEPS offsets from -REACH to REACH."""
    axes, origin = to_pixels
    offsets = np.linspace(-REACH, REACH, STEPS, dtype=np.float32)[:, None]
    x, y = np.broadcast_to(line[:, 0], (STEPS, len(line))), line[:, 1] + offsets
    map_x = (axes[0, 0] * x + axes[0, 1] * y + origin[0]).astype(np.float32)
    map_y = (axes[1, 0] * x + axes[1, 1] * y + origin[1]).astype(np.float32)
    return np.asarray(cv2.remap(face, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _best(response: Field) -> Field:
    """The shift with the largest mean response, against the prior; a soft maximum, so that it does not jump."""
    shifts = _shifts()
    rows = np.clip(np.round((shifts + REACH) * ((STEPS - 1) / (2 * REACH))), 0, STEPS - 1).astype(np.int32)
    middle = slice(ACROSS // 8, ACROSS - ACROSS // 8)
    score = response[rows[..., middle], np.arange(ACROSS)[middle]].mean(-1)
    prior = (shifts[..., middle] ** 2).mean(-1) / (2 * TRUST**2)
    weight = np.exp(SHARPNESS * (score - score.max()) - prior)
    found = (shifts * weight[:, None]).sum(0) / weight.sum()
    return np.asarray(found, np.float32)


@cache
def _shifts() -> Field:
    """[tries, ACROSS] every shift that is tried."""
    across = np.linspace(-1, 1, ACROSS, dtype=np.float32)
    move, bow, tilt = (part.reshape(-1, 1) for part in np.meshgrid(MOVES, BOWS, TILTS))
    return np.asarray(move + bow * (1 - across**2) + tilt * across, np.float32)
