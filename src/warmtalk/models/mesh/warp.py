"""Warp of skin and lips: computes the source pixel of every output pixel for one face and one mouth shape.

The map is the inverse map, exact and without iteration: for each position of the new face the position in the source.
Along x the mouth is widened or narrowed. Along y, skin above the lip line follows the upper lip and comes to rest at
the base of the nose; skin below follows the lower lip and comes to rest under the chin. Where the two sides separate
the mouth is open, and inner_mouth.py renders the inside. Fields are computed on a grid of one point per GRID_PX pixels
and interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from warmtalk.core.mouth import OPENING, PRESS, PROTRUSION, WIDTH
from warmtalk.core.types import FACE_SIZE
from warmtalk.models.mesh.landmark_measures import Field
from warmtalk.models.mesh.shape import (
    CORNER_FALLOFF,
    JAW_LINE,
    LIP_LINE,
    LOWER_EDGE,
    LOWER_THICKNESS,
    OPENING_PROFILE,
    TABLE_SIZE,
    UPPER_EDGE,
    UPPER_LIP_SHARE,
    UPPER_THICKNESS,
    FaceShape,
    interpolate_curves,
    smoothstep,
)

UPPER_LIP_RAISE = 0.2
"""Share of the gap beyond the source gap that the upper lip contributes by moving up."""
ROUND_TEETH_COVER = 0.5
"""Part of the upper lip motion that full protrusion cancels, because rounded lips cover the upper teeth."""
CORNER_DROP = 0.12
"""Downward motion of the mouth corners relative to the opening."""
RELAX_SWELL, THIN_LIP = 0.05, 0.12
"""Growth of the lips in mouth units when a smile with visible teeth closes, and the thickness above which lips do not
grow. A smile makes lips thin; thick lips were not thinned."""
ROUND_FLATTEN = 0.45
"""Share of the bend of the lip line that full protrusion removes. An "oo" cannot be spoken with a smile."""
ROUND_SWELL, PRESS_THIN = 0.25, 0.3
"""Relative change of the lip thickness at full protrusion and at full press."""


@dataclass(frozen=True, slots=True, eq=False)
class WarpField:
    """Pixel fields of one frame, [256 - top, 256] each."""

    map_x: Field
    """Source pixel of each pixel, for cv2.remap."""
    map_y: Field
    below_upper: Field
    """Pixels below the edge of the upper lip; negative on the lip."""
    above_lower: Field
    """Pixels above the edge of the lower lip; negative on the lip."""
    opening_profile: Field
    """Opening relative to the middle: 1 in the middle, 0 at the corners and outside."""
    lower_lip_y: float
    """y of the edge of the lower lip in the middle, in mouth units."""


def warp(face: FaceShape, features: Field) -> WarpField:
    """Returns the warp of `face` for one features row (core.mouth) whose values are in range."""
    opening, press, rounding = float(features[OPENING]), float(features[PRESS]), float(features[PROTRUSION])
    stretch = (1 + float(features[WIDTH])) * face.rest_stretch
    move_x = (face.x - face.middle_x) * (face.widening * face.window * (1 - 1 / stretch))
    curve = interpolate_curves(face.table, face.x - move_x)
    profile = _shaped_profile(curve[..., OPENING_PROFILE], opening, rounding, face.smile)
    pressed = press * max(1 - opening / 0.04, 0.0) * PRESS_THIN
    gap_upper = UPPER_LIP_SHARE * min(opening, face.source_gap) + UPPER_LIP_RAISE * max(opening - face.source_gap, 0.0)
    gap_upper *= 1 - ROUND_TEETH_COVER * rounding
    bend = curve[..., LIP_LINE] - face.table[LIP_LINE, TABLE_SIZE // 2]
    drop = (CORNER_DROP * opening * (1 - profile) - ROUND_FLATTEN * rounding * bend) * curve[..., CORNER_FALLOFF]
    upper = curve[..., LIP_LINE] - gap_upper * profile + drop
    lower = curve[..., LIP_LINE] + (opening - gap_upper) * profile + drop
    lower_lip_y = float(face.table[LIP_LINE, TABLE_SIZE // 2]) + opening - gap_upper
    relaxed = face.smile * max(1 - opening / max(face.source_gap, 0.01), 0.0)
    growth = [_thickness_growth(curve[..., lip], rounding, relaxed) for lip in (UPPER_THICKNESS, LOWER_THICKNESS)]
    move_up = _upper_motion(face, curve, upper, pressed, growth[0])
    move_down = _lower_motion(face, curve, lower, pressed, growth[1], lower_lip_y)
    coarse = np.stack([move_x, move_up, move_down, face.y - upper, lower - face.y, profile], -1)
    return _interpolate_to_pixels(face, coarse, lower_lip_y)


def _thickness_growth(thickness: Field, rounding: float, relaxed: float) -> Field:
    """Returns the growth of a lip in mouth units."""
    thinned = np.clip(1 - thickness / THIN_LIP, 0, 1) * np.minimum(thickness / 0.03, 1)
    return np.asarray(ROUND_SWELL * rounding * thickness + RELAX_SWELL * relaxed * thinned, np.float32)


def _upper_motion(face: FaceShape, curve: Field, edge: Field, pressed: float, growth: Field) -> Field:
    """Returns the downward motion above the lip line: the lip follows `edge`, the base of the nose stays."""
    above = edge - face.y
    thickness = curve[..., UPPER_THICKNESS]
    room = np.maximum(edge - face.nose_y, 0.08)
    share = 1 - smoothstep(0.25 * thickness, room, above)
    lip = edge - curve[..., UPPER_EDGE] + pressed * thickness
    grow = growth * smoothstep(0.0, thickness + 0.01, above)
    return np.asarray((lip - grow) * share * face.window, np.float32)


def _lower_motion(
    face: FaceShape, curve: Field, edge: Field, pressed: float, growth: Field, lower_lip_y: float
) -> Field:
    """Returns the downward motion below the lip line: the lip follows `edge`, the chin moves within the box."""
    below = face.y - edge
    thickness = curve[..., LOWER_THICKNESS]
    room = np.maximum(curve[..., JAW_LINE] - edge, 0.15)
    share = 1 - smoothstep(0.5 * thickness, room, below)
    lip = edge - curve[..., LOWER_EDGE] - pressed * thickness
    grow = growth * smoothstep(0.0, thickness + 0.01, below)
    middle = lower_lip_y - float(face.table[LOWER_EDGE, TABLE_SIZE // 2])
    chin = float(np.clip(0.5 * middle, -0.25 * face.chin_room, 0.45 * face.chin_room))
    chin_motion = chin * np.exp(-(((face.x - face.middle_x) / 0.75) ** 2))
    chin_share = smoothstep(0.2 * room, room, below) * (1 - smoothstep(room, room + max(face.chin_room, 0.05), below))
    return np.asarray(((lip + grow) * share + chin_motion * chin_share) * face.window, np.float32)


def _interpolate_to_pixels(face: FaceShape, coarse: Field, lower_lip_y: float) -> WarpField:
    """Interpolates the coarse fields to pixels. Each pixel uses the motion of the nearer side of the lip line."""
    height = FACE_SIZE - face.top
    fields = np.asarray(cv2.resize(coarse, (FACE_SIZE, height), interpolation=cv2.INTER_LINEAR), np.float32)
    move_x, move_up, move_down, below, above, profile = (fields[..., i] for i in range(6))
    move_y = np.where(below < above, move_up, move_down)
    axes = face.mouth_frame.axes
    columns = np.arange(FACE_SIZE, dtype=np.float32)
    rows = np.arange(face.top, FACE_SIZE, dtype=np.float32)[:, None]
    px = face.mouth_frame.down_px
    return WarpField(
        map_x=columns - (axes[0, 0] * move_x + axes[0, 1] * move_y),
        map_y=rows - (axes[1, 0] * move_x + axes[1, 1] * move_y),
        below_upper=below * px,
        above_lower=above * px,
        opening_profile=profile,
        lower_lip_y=lower_lip_y,
    )


def _shaped_profile(profile: Field, opening: float, rounding: float, smile: float) -> Field:
    """Returns the opening profile of the requested shape.

    A wide open mouth is an oval instead of a wedge. Rounded lips touch near the corners, and the rest becomes an oval.
    The lips of a smile touch less, because the dark corners of a smile would appear as a line.
    """
    touching = 0.55 * rounding * (1 - 0.75 * smile)
    inner = np.clip((profile - touching) / (1 - touching), 0, 1)
    wide = min(max(opening - 0.1, 0.0) / 0.2, 1.0)
    return np.asarray(inner ** ((1 - 0.4 * rounding * (1 - 0.5 * smile)) * (1 - 0.35 * wide)), np.float32)
