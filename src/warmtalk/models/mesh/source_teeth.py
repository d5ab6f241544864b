"""Teeth from the source: two pictures cut out of its own open mouth, chosen once per avatar.

The upper one holds what is fixed to the head, the lower one what goes with the jaw, each from the frame that shows it
best, so nothing flickers between frames. An opening is split along its darkest line, between the upper teeth and what
lies below them. Both pictures have the form of teeth.teeth_picture: mouth units, premultiplied, in good light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.types import Box, Image
from warmtalk.models.mesh.lighting import SHADE_TINT, cheek_of, light_on, light_through
from warmtalk.models.mesh.shape import (
    LOWER,
    NOSE_TIP,
    THICK_LOWER,
    THICK_UPPER,
    UPPER,
    FaceShape,
    Field,
    cut_face,
    eye_distance,
    face_pixels,
    lip_gap,
    look_up,
    mouth_width,
    prepare_shape,
)
from warmtalk.models.mesh.teeth import PICTURE_PX, REACH_X, REACH_Y

Picture = npt.NDArray[np.float32]
"""[h, w, 4] float32 BGR times alpha, and alpha 0..255."""

LEAST_GAP = 0.08
"""Opening of the source, in eye distances, below which a frame shows too little."""
TRIED = 8
"""Frames that are looked at, all of one segment of the source: more would take seconds to decode."""
MOST_MISTAKEN = 0.05
"""How far the opening in the picture may be from the mesh's; further, one of them is wrong."""
LEVELS = 25
"""Samples from the upper lip to the lower one."""
MIDDLE = 0.2
"""Half the width in mouth units in which the splitting line is looked for."""
LEAST_DIP = 0.12
"""Of the brightest level, how much darker the line between the jaws is than what it parts."""
LIGHTER, PALER = 0.0, 5.0
"""Teeth against lips, in Lab: at least this much lighter, and this much less red."""
DARK = 0.6
"""Of the lightest level; below the split, what is not lighter is nothing to take."""
LEAST_PART = 0.028
"""Height in mouth units below which a part is not worth taking."""
LIP_MARGIN, SIDE_GAP = 0.018, 0.06
"""Of the opening, what is left out along the lips; where it is lower than SIDE_GAP, the picture fades out."""
SOFT, DEPTH = 0.012, 0.12
"""In mouth units: how softly the upper teeth end, and how far the dark behind the lower ones goes on above them."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceTeeth:
    """Of one avatar. A part is None where the source never shows it: then it is drawn."""

    upper: Picture | None
    """Its middle row is the lip line of the closed mouth; fixed to the head."""
    lower: Picture | None
    """Its middle row is the edge of the lower lip; goes with the jaw."""

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.upper, self.lower) if part is not None)


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    face: FaceShape
    picture: Image
    """[256, 256, 3]"""
    light: Field
    opening: float
    """As the mesh saw it."""
    split: float
    """Where the jaws part: 0 at the upper lip to 1 at the lower."""
    upper: float
    """Height of the upper teeth that show, in mouth units."""
    lower: float
    """Height of the lower teeth and the tongue."""
    clear: float
    """Lightness of the teeth against the dark, 0..1."""


def find_source_teeth(bundle: Bundle, landmarks: Field, usable: npt.NDArray[np.bool_], lip_drop: float) -> SourceTeeth:
    """Reads one segment of the source; none when its mouth hardly opens.

    `landmarks` [n, 468, 2] are steadied; `lip_drop` is the way from the base of the nose to the closed lips.
    """
    found = []
    rest_width = float(np.median(mouth_width(landmarks[usable])))
    for row in _open_rows(landmarks, usable):
        candidate = _look(bundle.frame(row), landmarks[row], bundle.box(row), rest_width)
        if candidate is not None:
            found.append(candidate)
    upper = _best(found, [one.upper for one in found])
    lower = _best(found, [one.lower for one in found])
    return SourceTeeth(
        upper=None if upper is None else _cut(upper, up=True, lip_line=upper.face.nose + lip_drop),
        lower=None if lower is None else _cut(lower, up=False, lip_line=0.0),
    )


def _open_rows(landmarks: Field, usable: npt.NDArray[np.bool_]) -> list[int]:
    """Rows with an open mouth, slow and turned as the head mostly is; the best first."""
    gap = np.where(usable, lip_gap(landmarks), 0)
    turn = _turn(landmarks)
    odd = np.abs(turn - np.median(turn[usable]))
    speed = np.abs(np.gradient(gap)) if len(gap) > 1 else np.zeros(1)
    score = np.minimum(gap, 0.22) - 0.5 * speed - 0.5 * odd
    segments: dict[int, list[int]] = {}
    for row in np.argsort(-score):
        if gap[row] >= LEAST_GAP:
            segments.setdefault(int(row) // SEGMENT_FRAMES, []).append(int(row))
    tried = [rows[:TRIED] for rows in segments.values()]
    return max(tried, key=lambda rows: float(score[rows].sum()), default=[])


def _turn(landmarks: Field) -> Field:
    """How far the tip of the nose is beside the middle of the mouth, in eye distances."""
    corners = (landmarks[..., 61, :] + landmarks[..., 291, :]) / 2
    return np.asarray((landmarks[..., NOSE_TIP, 0] - corners[..., 0]) / eye_distance(landmarks), np.float32)


def _look(frame: Image, points: Field, box: Box, rest_width: float) -> _Candidate | None:
    picture = cut_face(frame, box)
    face = prepare_shape(picture, points, box, rest_width)
    opening = float(lip_gap(points))
    mistaken = opening - face.gap
    if face.gap < LEAST_GAP / 2 or not -MOST_MISTAKEN < mistaken < 2 * MOST_MISTAKEN:
        return None
    levels, lips = _levels(picture, face)
    light = levels[:, 0]
    teeth = (light > lips[0] + LIGHTER) & (levels[:, 1] < lips[1] - PALER) & (light > (light.max() + light.min()) / 2)
    if not teeth.any():
        return None
    line, parted = _line_between(light, teeth)
    upper = float(teeth[:line].sum()) * face.gap / LEVELS
    lower = float((light[line:] > DARK * light.max()).sum()) * face.gap / LEVELS if parted else 0.0
    if mistaken > MOST_MISTAKEN:  # the lower lip was taken for where the upper teeth end
        lower = 0.0
    clear = float(light.max() - light.min()) / 255
    light_here = light_on(cheek_of(picture, face_pixels(points, box)))
    return _Candidate(face, picture, light_here, opening, line / LEVELS, upper, lower, clear)


def _levels(picture: Image, face: FaceShape) -> tuple[Field, Field]:
    """[LEVELS, 3] Lab from the upper lip to the lower one, and [3] of the lips; means over the middle of the mouth."""
    x = np.linspace(-MIDDLE, MIDDLE, 41, dtype=np.float32) + np.float32(face.middle)
    curve = look_up(face.table, x)
    share = np.linspace(0.06, 0.94, LEVELS, dtype=np.float32)[:, None]
    inside = curve[:, UPPER] + share * (curve[:, LOWER] - curve[:, UPPER])
    lips = curve[:, UPPER] - 0.4 * curve[:, THICK_UPPER], curve[:, LOWER] + 0.4 * curve[:, THICK_LOWER]
    y = np.concatenate([inside, lips])
    strip = _sampled(picture, face, np.broadcast_to(x, y.shape), y)
    lab = cv2.cvtColor(strip, cv2.COLOR_BGR2LAB).astype(np.float32).mean(1)
    return lab[:LEVELS], lab[LEVELS:].mean(0)


def _line_between(light: Field, teeth: npt.NDArray[np.bool_]) -> tuple[int, bool]:
    """The level that is the darkest between two lighter parts, and whether there is one; else the end of the teeth."""
    above, below = np.maximum.accumulate(light), np.maximum.accumulate(light[::-1])[::-1]
    dip = np.minimum(above, below) - light
    place = int(np.argmax(dip))
    if dip[place] >= LEAST_DIP * light.max():
        return place, True
    return (int(np.flatnonzero(teeth)[-1]) + 1 if teeth[: LEVELS // 3].any() else 0), False


def _best(found: Sequence[_Candidate], heights: Sequence[float]) -> _Candidate | None:
    """The one with the most to see: high and clear."""
    worth = [(height * one.clear, k) for k, (one, height) in enumerate(zip(found, heights, strict=True))]
    good = [pair for pair in worth if heights[pair[1]] >= LEAST_PART]
    return found[max(good)[1]] if good else None


def _cut(one: _Candidate, *, up: bool, lip_line: float) -> Picture:
    """One jaw of a candidate's open mouth. Beyond the lips its edge goes on, for lips that open further."""
    face = one.face
    width, height = (round(2 * reach * PICTURE_PX) for reach in (REACH_X, REACH_Y))
    x = ((np.arange(width) + 0.5) / PICTURE_PX - REACH_X).astype(np.float32)
    curve = look_up(face.table, x + np.float32(face.middle))
    top, bottom = curve[:, UPPER], curve[:, LOWER]
    line = top + one.split * (bottom - top)
    zero = lip_line if up else float(look_up(face.table, np.float32(face.middle).reshape(1))[0, LOWER])
    y = ((np.arange(height) + 0.5) / PICTURE_PX - REACH_Y).astype(np.float32)[:, None] + np.float32(zero)
    first, last = (top + LIP_MARGIN, line) if up else (line, bottom - LIP_MARGIN)
    inside = np.clip(y, np.minimum(first, last), np.maximum(first, last))
    colour = _sampled(one.picture, face, np.broadcast_to(x + np.float32(face.middle), inside.shape), inside)
    lit = np.minimum(colour / (one.light * light_through(one.opening) ** SHADE_TINT), 255)
    ends = np.clip((line - y) / SOFT + 0.5 if up else 1 - (line - y) / DEPTH, 0, 1)
    sides = np.clip((bottom - top) / SIDE_GAP - 0.6, 0, 1)
    alpha = (ends * sides)[..., None]
    return np.asarray(np.concatenate([lit * alpha, 255 * alpha], -1), np.float32)


def _sampled(picture: Image, face: FaceShape, x: Field, y: Field) -> Image:
    axes, origin = face.frame.axes, face.frame.origin
    map_x = np.asarray(axes[0, 0] * x + axes[0, 1] * y + origin[0], np.float32)
    map_y = np.asarray(axes[1, 0] * x + axes[1, 1] * y + origin[1], np.float32)
    return np.asarray(cv2.remap(picture, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
