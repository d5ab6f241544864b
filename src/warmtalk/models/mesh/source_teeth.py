"""Teeth from the source: two textures cut from open mouths of the source, selected once per avatar.

The upper texture shows the part that is fixed to the head, the lower texture the part that moves with the jaw. Each is
cut from the one frame with the best view, so that nothing flickers between frames. An opening is split along the
darkest line between the upper teeth and the parts below. Both are TeethTextures (teeth.py): mouth units, premultiplied,
in good light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.types import Box, Image
from warmtalk.models.mesh.face_crop import extract_face, face_pixels
from warmtalk.models.mesh.landmark_measures import NOSE_TIP, Field, eye_distance, lip_gap, mouth_width
from warmtalk.models.mesh.lighting import SHADE_TINT, cheek_color, light_gain, opening_light
from warmtalk.models.mesh.shape import (
    LOWER_EDGE,
    LOWER_THICKNESS,
    UPPER_EDGE,
    UPPER_THICKNESS,
    FaceShape,
    interpolate_curves,
    measure_shape,
)
from warmtalk.models.mesh.teeth import HALF_HEIGHT, HALF_WIDTH, TEXTURE_PX, TeethTexture

MIN_GAP = 0.08
"""Minimum opening of a source frame, in eye distances."""
MAX_CANDIDATES = 8
"""Frames to examine, all of one segment of the source; more frames would take seconds to decode."""
MAX_GAP_ERROR = 0.05
"""Maximum difference between the opening in the image and in the mesh. Beyond, one of both is wrong."""
LEVELS = 25
"""Samples from the upper lip to the lower lip."""
SPLIT_HALF_WIDTH = 0.2
"""Half width in mouth units of the area in which the splitting line is searched."""
MIN_DIP = 0.12
"""Minimum darkness of the line between the jaws against both sides, relative to the brightest level."""
LIGHTNESS_MARGIN, REDNESS_MARGIN = 0.0, 5.0
"""Teeth against lips, in Lab: minimum surplus of lightness and minimum deficit of redness."""
CAVITY_LEVEL = 0.6
"""Lightness relative to the brightest level. Darker samples below the split show the cavity."""
MIN_PART_HEIGHT = 0.028
"""Minimum height in mouth units of a part worth using."""
LIP_MARGIN, SIDE_GAP = 0.018, 0.06
"""Margin along the lips that is left out, and the height of the opening below which the texture fades out; in mouth
units."""
EDGE_SOFTNESS, CAVITY_DEPTH = 0.012, 0.12
"""Fade of the end of the upper teeth, and length of the dark cavity above the lower teeth; in mouth units."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceTeeth:
    """Textures of one avatar. A part is None when the source never shows the part; synthetic teeth are used then."""

    upper: TeethTexture | None
    """Fixed to the head. The middle row is the lip line of the closed mouth."""
    lower: TeethTexture | None
    """Moves with the jaw. The middle row is the edge of the lower lip."""

    @property
    def nbytes(self) -> int:
        """Memory of both textures."""
        return sum(part.nbytes for part in (self.upper, self.lower) if part is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _TeethCandidate:
    """One frame with an open mouth."""

    face: FaceShape
    image: Image
    """[256, 256, 3]"""
    light: Field
    opening: float
    """Opening of the mesh, in eye distances."""
    split: float
    """Position of the line between the jaws: 0 at the upper lip, 1 at the lower lip."""
    upper: float
    """Height of the visible upper teeth, in mouth units."""
    lower: float
    """Height of the lower teeth and the tongue."""
    contrast: float
    """Lightness of the teeth against the cavity, 0..1."""


def find_source_teeth(bundle: Bundle, landmarks: Field, usable: npt.NDArray[np.bool_], lip_drop: float) -> SourceTeeth:
    """Reads one segment of the source. Both parts are None when the mouth hardly opens.

    `landmarks` [n, 468, 2] are smoothed; `lip_drop` is the distance from the base of the nose to the closed lips.
    """
    candidates = []
    rest_width = float(np.median(mouth_width(landmarks[usable])))
    for row in _open_rows(landmarks, usable):
        candidate = _measure_candidate(bundle.frame(row), landmarks[row], bundle.box(row), rest_width)
        if candidate is not None:
            candidates.append(candidate)
    upper = _best_candidate(candidates, [one.upper for one in candidates])
    lower = _best_candidate(candidates, [one.lower for one in candidates])
    return SourceTeeth(
        upper=None if upper is None else _cut_texture(upper, up=True, lip_line=upper.face.nose_y + lip_drop),
        lower=None if lower is None else _cut_texture(lower, up=False, lip_line=0.0),
    )


def _open_rows(landmarks: Field, usable: npt.NDArray[np.bool_]) -> list[int]:
    """Returns rows with an open mouth, slow motion and a typical head turn, the best first; all of one segment."""
    gap = np.where(usable, lip_gap(landmarks), 0)
    turn = _head_turn(landmarks)
    unusual_turn = np.abs(turn - np.median(turn[usable]))
    speed = np.abs(np.gradient(gap)) if len(gap) > 1 else np.zeros(1)
    score = np.minimum(gap, 0.22) - 0.5 * speed - 0.5 * unusual_turn
    segments: dict[int, list[int]] = {}
    for row in np.argsort(-score):
        if gap[row] >= MIN_GAP:
            segments.setdefault(int(row) // SEGMENT_FRAMES, []).append(int(row))
    best_rows = [rows[:MAX_CANDIDATES] for rows in segments.values()]
    return max(best_rows, key=lambda rows: float(score[rows].sum()), default=[])


def _head_turn(landmarks: Field) -> Field:
    """Returns the distance of the tip of the nose beside the middle of the mouth, in eye distances."""
    corners = (landmarks[..., 61, :] + landmarks[..., 291, :]) / 2
    return np.asarray((landmarks[..., NOSE_TIP, 0] - corners[..., 0]) / eye_distance(landmarks), np.float32)


def _measure_candidate(frame: Image, points: Field, box: Box, rest_width: float) -> _TeethCandidate | None:
    """Returns None when the image and the mesh disagree about the opening, or when no teeth are visible."""
    image = extract_face(frame, box)
    face = measure_shape(image, points, box, rest_width)
    opening = float(lip_gap(points))
    error = opening - face.source_gap
    if face.source_gap < MIN_GAP / 2 or not -MAX_GAP_ERROR < error < 2 * MAX_GAP_ERROR:
        return None
    levels, lips = _lab_levels(image, face)
    light = levels[:, 0]
    lighter = (light > lips[0] + LIGHTNESS_MARGIN) & (light > (light.max() + light.min()) / 2)
    teeth = lighter & (levels[:, 1] < lips[1] - REDNESS_MARGIN)
    if not teeth.any():
        return None
    line, parted = _split_level(light, teeth)
    upper = float(teeth[:line].sum()) * face.source_gap / LEVELS
    lower = float((light[line:] > CAVITY_LEVEL * light.max()).sum()) * face.source_gap / LEVELS if parted else 0.0
    if error > MAX_GAP_ERROR:  # the end of the upper teeth was mistaken for the lower lip
        lower = 0.0
    contrast = float(light.max() - light.min()) / 255
    gain = light_gain(cheek_color(image, face_pixels(points, box)))
    return _TeethCandidate(face, image, gain, opening, line / LEVELS, upper, lower, contrast)


def _lab_levels(image: Image, face: FaceShape) -> tuple[Field, Field]:
    """Returns [LEVELS, 3] Lab from the upper lip to the lower lip, and [3] of the lips, averaged over the middle."""
    x = np.linspace(-SPLIT_HALF_WIDTH, SPLIT_HALF_WIDTH, 41, dtype=np.float32) + np.float32(face.middle_x)
    curve = interpolate_curves(face.table, x)
    share = np.linspace(0.06, 0.94, LEVELS, dtype=np.float32)[:, None]
    inside = curve[:, UPPER_EDGE] + share * (curve[:, LOWER_EDGE] - curve[:, UPPER_EDGE])
    upper_lip = curve[:, UPPER_EDGE] - 0.4 * curve[:, UPPER_THICKNESS]
    lower_lip = curve[:, LOWER_EDGE] + 0.4 * curve[:, LOWER_THICKNESS]
    y = np.concatenate([inside, (upper_lip, lower_lip)])
    strip = _sample_mouth(image, face, np.broadcast_to(x, y.shape), y)
    lab = cv2.cvtColor(strip, cv2.COLOR_BGR2LAB).astype(np.float32).mean(1)
    return lab[:LEVELS], lab[LEVELS:].mean(0)


def _split_level(light: Field, teeth: npt.NDArray[np.bool_]) -> tuple[int, bool]:
    """Returns the darkest level between two lighter parts and True; without such a level, the end of the teeth."""
    above, below = np.maximum.accumulate(light), np.maximum.accumulate(light[::-1])[::-1]
    dip = np.minimum(above, below) - light
    darkest = int(np.argmax(dip))
    if dip[darkest] >= MIN_DIP * light.max():
        return darkest, True
    return (int(np.flatnonzero(teeth)[-1]) + 1 if teeth[: LEVELS // 3].any() else 0), False


def _best_candidate(candidates: Sequence[_TeethCandidate], heights: Sequence[float]) -> _TeethCandidate | None:
    """Returns the candidate with the largest product of visible height and contrast."""
    scores = [(height * one.contrast, k) for k, (one, height) in enumerate(zip(candidates, heights, strict=True))]
    good = [pair for pair in scores if heights[pair[1]] >= MIN_PART_HEIGHT]
    return candidates[max(good)[1]] if good else None


def _cut_texture(one: _TeethCandidate, *, up: bool, lip_line: float) -> TeethTexture:
    """Returns the texture of one jaw. Beyond the lips the edge pixels are repeated, for lips that open further."""
    face = one.face
    width, height = (round(2 * half * TEXTURE_PX) for half in (HALF_WIDTH, HALF_HEIGHT))
    x = ((np.arange(width) + 0.5) / TEXTURE_PX - HALF_WIDTH).astype(np.float32)
    curve = interpolate_curves(face.table, x + np.float32(face.middle_x))
    top, bottom = curve[:, UPPER_EDGE], curve[:, LOWER_EDGE]
    line = top + one.split * (bottom - top)
    middle = np.float32(face.middle_x).reshape(1)
    zero = lip_line if up else float(interpolate_curves(face.table, middle)[0, LOWER_EDGE])
    y = ((np.arange(height) + 0.5) / TEXTURE_PX - HALF_HEIGHT).astype(np.float32)[:, None] + np.float32(zero)
    first, last = (top + LIP_MARGIN, line) if up else (line, bottom - LIP_MARGIN)
    inside = np.clip(y, np.minimum(first, last), np.maximum(first, last))
    colour = _sample_mouth(one.image, face, np.broadcast_to(x + np.float32(face.middle_x), inside.shape), inside)
    lit = np.minimum(colour / (one.light * opening_light(one.opening) ** SHADE_TINT), 255)
    ends = np.clip((line - y) / EDGE_SOFTNESS + 0.5 if up else 1 - (line - y) / CAVITY_DEPTH, 0, 1)
    sides = np.clip((bottom - top) / SIDE_GAP - 0.6, 0, 1)
    alpha = (ends * sides)[..., None]
    return np.asarray(np.concatenate([lit * alpha, 255 * alpha], -1), np.float32)


def _sample_mouth(image: Image, face: FaceShape, x: Field, y: Field) -> Image:
    """Samples the image at positions in mouth units."""
    axes, origin = face.mouth_frame.axes, face.mouth_frame.origin
    map_x = np.asarray(axes[0, 0] * x + axes[0, 1] * y + origin[0], np.float32)
    map_y = np.asarray(axes[1, 0] * x + axes[1, 1] * y + origin[1], np.float32)
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
