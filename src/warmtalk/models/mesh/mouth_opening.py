"""What lies between the lips: where the picture shows teeth or the dark of the mouth, the lips are apart, also where
the face mesh takes them for closed, as it does in a beard or in the blur of a fast motion.

Unlike lips.py, which looks for edges near those of the mesh, this looks at the colour of whole areas, so that a tooth's
edge is not taken for a lip's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Image

Field = npt.NDArray[np.float32]

REACH, STEPS = 0.2, 81
"""How far to look above and below the mesh's line, in mouth units, and in how many steps."""
LIP_DEPTHS = (0.35, 0.5, 0.65)
"""Where lips are sampled: shares of the way from the inner to the outer edge."""
LIP_MARGIN = 0.03
"""Nothing this near to the outer edge of a lip, or beyond, is inside of a mouth: it may be a beard."""
NEUTRAL = 128.0
"""Of the red in Lab."""
PALE = (0.25, 0.5)
"""Of the lips' red, what a tooth lacks: from the first on it is hardly a lip, at the second it is none."""
DARK = (0.7, 0.84)
"""Of the lips' lightness: below the first nothing but a cavity, above the second none."""
GREY = (0.6, 0.7)
"""A tooth in shadow is at least this light."""
DOUBT = 0.45
"""How much of an opening must look like one."""
CERTAIN = (0.004, 0.012)
"""Area in square mouth units over the mouth's width that makes an opening likely, and certain."""
APART = (0.018, 0.03)
"""Gap of the mesh: below the first a dark line is the shadow between closed lips, however wide."""
UNLIKE_MESH = 0.3
"""What speaks against an opening that is not the mesh's: area per square of the difference."""
SHARPNESS = 500.0
"""How fast an opening that explains less loses: per such area."""


@dataclass(frozen=True, slots=True)
class _Tries:
    """[tries, across] edges, relative to the mesh's line, and what speaks against each."""

    top: Field
    low: Field
    height: Field
    odd: Field


def opening_seen(
    face: Image, x: Field, lips: tuple[Field, Field, Field, Field], to_pixels: tuple[Field, Field]
) -> tuple[Field, Field, float]:
    """Upper and lower end of what is seen between the lips, at `x`, and 0..1 how certain it is.

    `x` [n] runs from corner to corner in mouth units; `lips` are y [n] of the outer and inner edge of the upper lip and
    of the inner and outer edge of the lower one, by the mesh; `to_pixels` as in lips.correct_lips.
    """
    outer_up, inner_up, inner_low, outer_low = lips
    line = (inner_up + inner_low) / np.float32(2)
    y = line + np.linspace(-REACH, REACH, STEPS, dtype=np.float32)[:, None]
    lab = np.asarray(cv2.GaussianBlur(_lab(face, x, y, to_pixels), (0, 0), sigmaX=1, sigmaY=1.5), np.float32)
    depths = np.array(LIP_DEPTHS, np.float32)[:, None]
    flesh = (inner + depths * (outer - inner) for inner, outer in ((inner_up, outer_up), (inner_low, outer_low)))
    lightness, red = _lip_colour(*(_lab(face, x, rows, to_pixels) for rows in flesh))
    light = lab[..., 0] / lightness
    pale = _rise(PALE, (red - lab[..., 1]) / max(red - NEUTRAL, 6.0)) * _rise(GREY, light)
    inside = np.maximum(pale, 1 - _rise(DARK, light))
    inside[(y < outer_up + LIP_MARGIN) | (y > outer_low - LIP_MARGIN)] = 0
    tries = _tries(len(x))
    gap = float((inner_low - inner_up)[len(x) // 3 : -(len(x) // 3)].mean())
    score = _areas(inside - DOUBT, tries) - tries.odd - UNLIKE_MESH * (tries.height - gap) ** 2
    weight = np.exp(SHARPNESS * (score - score.max()))
    weight /= weight.sum()
    certain = float(_rise(CERTAIN, score.max() - score[tries.height == 0].max()) * _rise(APART, gap))
    return (line + weight @ tries.top).astype(np.float32), (line + weight @ tries.low).astype(np.float32), certain


def _lab(face: Image, x: Field, y: Field, to_pixels: tuple[Field, Field]) -> Field:
    """[rows, n, 3] Lab of the picture at `x` [n] and `y` [rows, n]."""
    axes, origin = to_pixels
    map_x = (axes[0, 0] * x + axes[0, 1] * y + origin[0]).astype(np.float32)
    map_y = (axes[1, 0] * x + axes[1, 1] * y + origin[1]).astype(np.float32)
    strip = cv2.remap(face, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(np.asarray(strip, np.uint8), cv2.COLOR_BGR2LAB), np.float32)


def _lip_colour(upper: Field, lower: Field) -> tuple[float, float]:
    """Lightness and red. The lower lip may be taken for where the mouth is, the upper one lies in its own shadow."""
    middle = slice(upper.shape[1] // 4, -(upper.shape[1] // 4))
    up, low = (lip[:, middle].reshape(-1, 3) for lip in (upper, lower))
    lightness = min(float(np.median(up[:, 0])), float(np.percentile(low[:, 0], 75)))
    return max(lightness, 1.0), max(float(np.median(up[:, 1])), float(np.median(low[:, 1])))


def _areas(inside: Field, tries: _Tries) -> Field:
    """[tries] sum of `inside` between both edges, in mouth units, mean over the middle columns."""
    columns = np.arange(4, inside.shape[1] - 4, 2)
    step = 2 * REACH / (STEPS - 1)
    below = np.concatenate([np.zeros((1, len(columns))), np.cumsum(inside[:, columns], 0)]) * step
    at = np.arange(len(columns))
    ends = [
        below[np.clip(np.round((edge[:, columns] + REACH) / step + 0.5), 0, STEPS).astype(np.int32), at]
        for edge in (tries.top, tries.low)
    ]
    return np.asarray((ends[1] - ends[0]).mean(1), np.float32)


@cache
def _tries(across: int) -> _Tries:
    place = np.linspace(-1, 1, across)
    grid = np.meshgrid(
        np.linspace(-0.12, 0.12, 13), (-0.03, 0, 0.03), (-0.05, 0, 0.05), np.linspace(0, 0.3, 13), (0.6, 1.0)
    )
    move, tilt, bow, height, width = (part.reshape(-1, 1) for part in grid)
    line = move + tilt * place + bow * (1 - place**2)
    half = 0.5 * height * np.maximum(1 - (place / width) ** 2, 0) ** 0.7
    odd = 0.0025 * ((move / 0.06) ** 2 + 0.3 * (tilt / 0.03) ** 2 + 0.5 * (bow / 0.05) ** 2)
    parts = line - half, line + half, height[:, 0], odd[:, 0]
    return _Tries(*(np.asarray(part, np.float32) for part in parts))


def _rise(ends: tuple[float, float], value: Field | float) -> Field:
    return np.asarray(np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1), np.float32)
