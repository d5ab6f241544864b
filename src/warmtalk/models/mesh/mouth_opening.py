"""Detects the mouth opening by colour: visible teeth or a dark cavity mean open lips.

The face mesh reports closed lips for some open mouths, for example in a beard or in motion blur. lip_refinement.py
searches for edges near the edges of the mesh. This module classifies the colour of whole areas instead, so that the
edge of a tooth is not mistaken for the edge of a lip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from warmtalk.core.types import Image
from warmtalk.models.mesh.landmark_measures import Field

SEARCH_REACH, SEARCH_STEPS = 0.2, 81
"""Search range above and below the lip line of the mesh in mouth units; samples across that range."""
LIP_DEPTHS = (0.35, 0.5, 0.65)
"""Sample positions of the lip colour, as shares of the distance from the inner to the outer edge."""
LIP_MARGIN = 0.03
"""Pixels this near to the outer edge of a lip, or beyond, never count as inside the mouth: a beard may be there."""
LAB_NEUTRAL = 128.0
"""Value of the a channel (redness) of an 8-bit Lab grey."""
REDNESS_DEFICIT = (0.25, 0.5)
"""Redness deficit relative to the lips (soft threshold): lip below the first value, tooth above the second."""
CAVITY_LIGHTNESS = (0.7, 0.84)
"""Lightness relative to the lips (soft threshold): cavity below the first value, no cavity above the second."""
TOOTH_LIGHTNESS = (0.6, 0.7)
"""Lightness relative to the lips (soft threshold): no tooth below the first value; a shaded tooth reaches the
second."""
INSIDE_THRESHOLD = 0.45
"""Share of a candidate area that must look like teeth or cavity for a positive score."""
CERTAIN_AREA = (0.004, 0.012)
"""Scored area (square mouth units per mouth width): certainty is 0 below the first value and 1 above the second."""
MESH_GAP = (0.018, 0.03)
"""Gap of the mesh: below the first value a dark line of any width counts as the shadow between closed lips."""
MESH_DEVIATION_COST = 0.3
"""Cost of an opening that differs from the mesh: area per squared difference of the heights."""
SOFTMAX_SHARPNESS = 500.0
"""Exponent of the soft maximum per unit of scored area."""


@dataclass(frozen=True, slots=True)
class _OpeningCandidates:
    """Candidate openings: upper and lower edge [candidates, across] relative to the lip line of the mesh."""

    top: Field
    bottom: Field
    height: Field
    """[candidates] opening in the middle, in mouth units."""
    prior_cost: Field
    """[candidates] area subtracted from the score of an unusual shift, tilt or bow."""


def detect_opening(
    face: Image, x: Field, lips: tuple[Field, Field, Field, Field], to_pixels: tuple[Field, Field]
) -> tuple[Field, Field, float]:
    """Returns y of the upper and lower end of the visible opening at `x`, and the certainty 0..1 of the detection.

    `x` [n] runs from corner to corner in mouth units. `lips` holds y [n] of four edges of the mesh from top to bottom:
    outer and inner edge of the upper lip, inner and outer edge of the lower lip. `to_pixels` is the argument of
    lip_refinement.refine_lip_edges.
    """
    outer_up, inner_up, inner_low, outer_low = lips
    line = (inner_up + inner_low) / np.float32(2)
    y = line + np.linspace(-SEARCH_REACH, SEARCH_REACH, SEARCH_STEPS, dtype=np.float32)[:, None]
    lab = np.asarray(cv2.GaussianBlur(_lab(face, x, y, to_pixels), (0, 0), sigmaX=1, sigmaY=1.5), np.float32)
    depths = np.array(LIP_DEPTHS, np.float32)[:, None]
    flesh = (inner + depths * (outer - inner) for inner, outer in ((inner_up, outer_up), (inner_low, outer_low)))
    lightness, red = _lip_colour(*(_lab(face, x, rows, to_pixels) for rows in flesh))
    light = lab[..., 0] / lightness
    pale = _ramp(REDNESS_DEFICIT, (red - lab[..., 1]) / max(red - LAB_NEUTRAL, 6.0)) * _ramp(TOOTH_LIGHTNESS, light)
    inside = np.maximum(pale, 1 - _ramp(CAVITY_LIGHTNESS, light))
    inside[(y < outer_up + LIP_MARGIN) | (y > outer_low - LIP_MARGIN)] = 0
    candidates = _opening_candidates(len(x))
    mesh_gap = float((inner_low - inner_up)[len(x) // 3 : -(len(x) // 3)].mean())
    score = (
        _area_between(inside - INSIDE_THRESHOLD, candidates)
        - candidates.prior_cost
        - MESH_DEVIATION_COST * (candidates.height - mesh_gap) ** 2
    )
    weight = np.exp(SOFTMAX_SHARPNESS * (score - score.max()))
    weight /= weight.sum()
    certainty = _ramp(CERTAIN_AREA, score.max() - score[candidates.height == 0].max()) * _ramp(MESH_GAP, mesh_gap)
    top, bottom = (line + weight @ edge for edge in (candidates.top, candidates.bottom))
    return top.astype(np.float32), bottom.astype(np.float32), float(certainty)


def _lab(face: Image, x: Field, y: Field, to_pixels: tuple[Field, Field]) -> Field:
    """Returns [rows, n, 3] Lab of the image at `x` [n] and `y` [rows, n]."""
    axes, origin = to_pixels
    map_x = (axes[0, 0] * x + axes[0, 1] * y + origin[0]).astype(np.float32)
    map_y = (axes[1, 0] * x + axes[1, 1] * y + origin[1]).astype(np.float32)
    strip = cv2.remap(face, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(np.asarray(strip, np.uint8), cv2.COLOR_BGR2LAB), np.float32)


def _lip_colour(upper: Field, lower: Field) -> tuple[float, float]:
    """Returns lightness and redness of the lips.

    Two robust choices: samples of the lower lip may show the open mouth, and the upper lip lies in shadow.
    """
    middle = slice(upper.shape[1] // 4, -(upper.shape[1] // 4))
    up, low = (lip[:, middle].reshape(-1, 3) for lip in (upper, lower))
    lightness = min(float(np.median(up[:, 0])), float(np.percentile(low[:, 0], 75)))
    return max(lightness, 1.0), max(float(np.median(up[:, 1])), float(np.median(low[:, 1])))


def _area_between(inside: Field, candidates: _OpeningCandidates) -> Field:
    """Returns [candidates] sum of `inside` between both edges in mouth units, mean over the middle columns."""
    columns = np.arange(4, inside.shape[1] - 4, 2)
    step = 2 * SEARCH_REACH / (SEARCH_STEPS - 1)
    integral = np.concatenate([np.zeros((1, len(columns))), np.cumsum(inside[:, columns], 0)]) * step
    indices = (
        np.clip(np.round((edge[:, columns] + SEARCH_REACH) / step + 0.5), 0, SEARCH_STEPS).astype(np.int32)
        for edge in (candidates.top, candidates.bottom)
    )
    ends = [integral[rows, np.arange(len(columns))] for rows in indices]
    return np.asarray((ends[1] - ends[0]).mean(1), np.float32)


@cache
def _opening_candidates(across: int) -> _OpeningCandidates:
    position = np.linspace(-1, 1, across)
    grid = np.meshgrid(
        np.linspace(-0.12, 0.12, 13), (-0.03, 0, 0.03), (-0.05, 0, 0.05), np.linspace(0, 0.3, 13), (0.6, 1.0)
    )
    move, tilt, bow, height, width = (part.reshape(-1, 1) for part in grid)
    line = move + tilt * position + bow * (1 - position**2)
    half = 0.5 * height * np.maximum(1 - (position / width) ** 2, 0) ** 0.7
    prior_cost = 0.0025 * ((move / 0.06) ** 2 + 0.3 * (tilt / 0.03) ** 2 + 0.5 * (bow / 0.05) ** 2)
    parts = line - half, line + half, height[:, 0], prior_cost[:, 0]
    return _OpeningCandidates(*(np.asarray(part, np.float32) for part in parts))


def _ramp(ends: tuple[float, float], value: Field | float) -> Field:
    return np.asarray(np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1), np.float32)
