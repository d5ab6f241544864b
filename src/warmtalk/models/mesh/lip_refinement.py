"""Refines the inner lip edges of the face mesh with the pixels of the image.

The error of the face mesh is some hundredths of the eye distance. A mouth that opens beside the real lip line, or
closes over visible teeth, is noticed at once. Therefore each edge may shift, bow and tilt a little to the edge in the
image.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from warmtalk.core.types import Image
from warmtalk.models.mesh.landmark_measures import Field

EDGE_SAMPLES, SEARCH_REACH, SEARCH_STEPS = 33, 0.12, 49
"""Samples along an edge; search range to either side in mouth units; samples across that range."""
MOVES = np.linspace(-0.07, 0.07, 11, dtype=np.float32)
BOWS = np.linspace(-0.06, 0.06, 7, dtype=np.float32)
TILTS = np.linspace(-0.025, 0.025, 3, dtype=np.float32)
"""Candidate corrections in mouth units: shift of the whole edge, shift of the middle, opposite shift of the two
ends."""
MESH_ERROR_STD = 0.045
"""Standard deviation of the error of the face mesh in mouth units; defines the prior of a correction."""
LIGHTNESS_WEIGHT = 0.25
"""Weight of a lightness gradient of either sign relative to a redness gradient. Compression blurs redness."""
SOFTMAX_SHARPNESS = 0.6
"""Exponent of the soft maximum per grey level of response."""
NOT_LIP_PENALTY = 8.0
"""Response subtracted, in grey levels, from an edge without lip colour on the outer side."""
OUTSIDE_STEPS, LIP_STEPS = 9, 13
"""Steps from an edge to the skin beside that edge; steps at the end of the samples that certainly show lip."""
CLOSED_GAP, OPEN_GAP = 0.04, 0.06
"""Gap between the inner lips of the mesh: closed below the first value, open above the second, blended in between."""


def refine_lip_edges(face: Image, upper: Field, lower: Field, to_pixels: tuple[Field, Field]) -> tuple[Field, Field]:
    """Returns y of the upper and the lower inner lip edge after the correction, [EDGE_SAMPLES] each, at the given x.

    `upper` and `lower` are [EDGE_SAMPLES, 2] points from corner to corner in mouth units. `to_pixels` holds the axes
    [2, 2] and the origin [2] of the mouth frame in the 256 x 256 `face`. The edges coincide where the lips touch and
    never cross.
    """
    x = upper[:, 0]
    middle: Field = (upper[:, 1] + lower[:, 1]) / np.float32(2)
    gap = float((lower - upper)[EDGE_SAMPLES // 3 : -EDGE_SAMPLES // 3, 1].mean())
    openness = float(np.clip((gap - CLOSED_GAP) / (OPEN_GAP - CLOSED_GAP), 0, 1))
    closed: Field = middle
    if openness < 1:
        closed = middle + _lip_line_shift(face, np.stack([x, middle], 1), to_pixels)
    if openness == 0:
        return closed, closed.copy()
    # Near the corners the mesh is more reliable: no tooth is visible, and the dark corner must stay inside the mouth.
    inward = np.clip(4 - np.abs(np.linspace(-4, 4, EDGE_SAMPLES, dtype=np.float32)), 0, 1)
    top = upper[:, 1] + _lip_edge_shift(face, upper, to_pixels, upper=True) * inward
    bottom = lower[:, 1] + _lip_edge_shift(face, lower, to_pixels, upper=False) * inward
    middle, half = (top + bottom) / 2, np.maximum(bottom - top, 0) / 2
    middle = closed + (middle - closed) * openness
    half = half * openness
    return np.asarray(middle - half, np.float32), np.asarray(middle + half, np.float32)


def _lip_line_shift(face: Image, line: Field, to_pixels: tuple[Field, Field]) -> Field:
    """Returns the downward shift [EDGE_SAMPLES] from the lip line of closed lips to the dark line in the image."""
    grey = cv2.cvtColor(_sample_along(face, line, to_pixels), cv2.COLOR_BGR2GRAY).astype(np.float32)
    wide, narrow = (cv2.GaussianBlur(grey, (0, 0), sigmaX=1.5, sigmaY=sigma) for sigma in (7, 2))
    return _best_shift(np.asarray(wide - narrow, np.float32))


def _lip_edge_shift(face: Image, line: Field, to_pixels: tuple[Field, Field], *, upper: bool) -> Field:
    """Returns the downward shift [EDGE_SAMPLES] from an inner lip edge to the border of red lip and teeth or cavity."""
    patch = _sample_along(face, line, to_pixels)
    lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB).astype(np.float32)
    light, red = _vertical_gradient(lab[..., 0]), _vertical_gradient(lab[..., 1])
    edge = (-red if upper else red) + LIGHTNESS_WEIGHT * np.abs(light)
    return _best_shift(np.asarray(edge - NOT_LIP_PENALTY * _lip_dissimilarity(lab, upper), np.float32))


def _lip_dissimilarity(lab: Field, upper: bool) -> Field:
    """Returns [SEARCH_STEPS, EDGE_SAMPLES] 0..1: difference between the lip colour and the outer side of an edge.

    The border between a tooth and the cavity is as sharp as a lip edge, but shows no lip colour on the outer side.
    """
    soft = cv2.GaussianBlur(lab, (0, 0), sigmaX=1.5, sigmaY=2)
    outer = soft[:LIP_STEPS] if upper else soft[-LIP_STEPS:]
    lip = np.median(outer, axis=0)
    outside = np.roll(soft, OUTSIDE_STEPS if upper else -OUTSIDE_STEPS, axis=0)
    difference = np.abs(outside - lip)[..., :2] @ np.array([1.0, 2.0], np.float32)
    return np.asarray(np.clip((difference - 45) / 40, 0, 1), np.float32)


def _vertical_gradient(channel: Field) -> Field:
    """Returns the gradient down the patch in grey levels over eight steps."""
    soft = cv2.GaussianBlur(channel, (0, 0), sigmaX=1.5, sigmaY=2)
    return np.asarray(cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3), np.float32)


def _sample_along(face: Image, line: Field, to_pixels: tuple[Field, Field]) -> Image:
    """Returns [SEARCH_STEPS, EDGE_SAMPLES, 3] pixels along `line`, offset from -SEARCH_REACH to SEARCH_REACH."""
    axes, origin = to_pixels
    offsets = np.linspace(-SEARCH_REACH, SEARCH_REACH, SEARCH_STEPS, dtype=np.float32)[:, None]
    x, y = np.broadcast_to(line[:, 0], (SEARCH_STEPS, len(line))), line[:, 1] + offsets
    map_x = (axes[0, 0] * x + axes[0, 1] * y + origin[0]).astype(np.float32)
    map_y = (axes[1, 0] * x + axes[1, 1] * y + origin[1]).astype(np.float32)
    return np.asarray(cv2.remap(face, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _best_shift(response: Field) -> Field:
    """Returns the shift with the largest mean response times prior, as a continuous soft maximum."""
    shifts = _candidate_shifts()
    rows = np.clip(
        np.round((shifts + SEARCH_REACH) * ((SEARCH_STEPS - 1) / (2 * SEARCH_REACH))), 0, SEARCH_STEPS - 1
    ).astype(np.int32)
    middle = slice(EDGE_SAMPLES // 8, EDGE_SAMPLES - EDGE_SAMPLES // 8)
    score = response[rows[..., middle], np.arange(EDGE_SAMPLES)[middle]].mean(-1)
    prior = (shifts[..., middle] ** 2).mean(-1) / (2 * MESH_ERROR_STD**2)
    weight = np.exp(SOFTMAX_SHARPNESS * (score - score.max()) - prior)
    mean_shift = (shifts * weight[:, None]).sum(0) / weight.sum()
    return np.asarray(mean_shift, np.float32)


@cache
def _candidate_shifts() -> Field:
    """Returns every candidate shift, [candidates, EDGE_SAMPLES]."""
    across = np.linspace(-1, 1, EDGE_SAMPLES, dtype=np.float32)
    move, bow, tilt = (part.reshape(-1, 1) for part in np.meshgrid(MOVES, BOWS, TILTS))
    return np.asarray(move + bow * (1 - across**2) + tilt * across, np.float32)
