"""How skin and lips move: from one source face and a mouth shape to the place every pixel comes from.

The map is the inverse one, exactly, without iteration: for each place of the new face, the place of the source. Along
x the mouth is widened or narrowed. Along y, above the lip line, skin follows the upper lip and comes to rest at the
base of the nose; below it follows the lower lip and comes to rest under the chin. Where the two sides disagree the
mouth is open, and mouth.py fills it. Fields are computed on a grid of one point per GRID pixels and interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from warmtalk.core.mouth import OPENING, PRESS, PROTRUSION, WIDTH
from warmtalk.core.types import FACE_SIZE
from warmtalk.models.mesh.shape import (
    JAW_LINE,
    LENS,
    LOWER,
    SEAM,
    TABLE_SIZE,
    TAIL,
    THICK_LOWER,
    THICK_UPPER,
    UPPER,
    UPPER_SHARE,
    FaceShape,
    Field,
    look_up,
    smooth,
)

RAISE_SHARE = 0.2
"""Of a gap wider than the source's, the part that the upper lip gives."""
ROUND_COVER = 0.5
"""Of that part, what full protrusion takes back: rounded lips cover the upper teeth."""
CORNER_DROP = 0.12
"""Of the opening, how far the corners of the mouth go down."""
RELAX_SWELL, THIN_LIP = 0.05, 0.12
"""Growth of lips where a smile that shows teeth is closed, less for lips that it had not drawn thin."""
FLATTEN = 0.45
"""Of the lip line's bend, the part that full protrusion takes out: nobody says "oo" with a smile."""
ROUND_SWELL, PRESS_THIN = 0.25, 0.3
"""Change of the lips' thickness at full protrusion and press."""


@dataclass(frozen=True, slots=True, eq=False)
class Warped:
    """Fine fields of one frame, [256 - top, 256] each."""

    map_x: Field
    map_y: Field
    below_upper: Field
    """Pixels below the edge of the upper lip; negative on the lip."""
    above_lower: Field
    """Pixels above the edge of the lower lip; negative on the lip."""
    lens: Field
    """Opening profile: 1 in the middle, 0 at the corners and outside."""
    jaw: float
    """y of the lower lip's edge in the middle, in mouth units."""


def warp(face: FaceShape, want: Field) -> Warped:
    """Where each pixel of the new face comes from. `want` is one features row, in range."""
    opening, press, round_ = float(want[OPENING]), float(want[PRESS]), float(want[PROTRUSION])
    stretch = (1 + float(want[WIDTH])) * face.rest_stretch
    to_source = face.x - face.middle
    move_x = to_source * (face.spread * face.window * (1 - 1 / stretch))
    curve = look_up(face.table, face.x - move_x)
    lens = _lens(curve[..., LENS], opening, round_, face.smile)
    shut = press * max(1 - opening / 0.04, 0.0) * PRESS_THIN
    gap_upper = UPPER_SHARE * min(opening, face.gap) + RAISE_SHARE * max(opening - face.gap, 0.0)
    gap_upper *= 1 - ROUND_COVER * round_
    bend = curve[..., SEAM] - face.table[SEAM, TABLE_SIZE // 2]
    drop = (CORNER_DROP * opening * (1 - lens) - FLATTEN * round_ * bend) * curve[..., TAIL]
    upper = curve[..., SEAM] - gap_upper * lens + drop
    lower = curve[..., SEAM] + (opening - gap_upper) * lens + drop
    jaw = float(face.table[SEAM, TABLE_SIZE // 2]) + opening - gap_upper
    relaxed = face.smile * max(1 - opening / max(face.gap, 0.01), 0.0)
    thicker = [_growth(curve[..., lip], round_, relaxed) for lip in (THICK_UPPER, THICK_LOWER)]
    move_up = _upper_motion(face, curve, upper, shut, thicker[0])
    move_down = _lower_motion(face, curve, lower, shut, thicker[1], jaw)
    return _fine(face, np.stack([move_x, move_up, move_down, face.y - upper, lower - face.y, lens], -1), jaw)


def _growth(thick: Field, round_: float, relaxed: float) -> Field:
    """How much thicker a lip gets, where it is `thick`."""
    drawn_thin = np.clip(1 - thick / THIN_LIP, 0, 1) * np.minimum(thick / 0.03, 1)
    return np.asarray(ROUND_SWELL * round_ * thick + RELAX_SWELL * relaxed * drawn_thin, np.float32)


def _upper_motion(face: FaceShape, curve: Field, edge: Field, shut: float, thicker: Field) -> Field:
    """Motion down of what is above the lip line: the lip goes with its edge, the base of the nose stays."""
    above = edge - face.y
    thick = curve[..., THICK_UPPER]
    room = np.maximum(edge - face.nose, 0.08)
    rest = 1 - smooth(0.25 * thick, room, above)
    lip = edge - curve[..., UPPER] + shut * thick
    grow = thicker * smooth(0.0, thick + 0.01, above)
    return np.asarray((lip - grow) * rest * face.window, np.float32)


def _lower_motion(face: FaceShape, curve: Field, edge: Field, shut: float, thicker: Field, jaw: float) -> Field:
    """Motion down of what is below the lip line: the lip with its edge, the chin as far as the box has room."""
    below = face.y - edge
    thick = curve[..., THICK_LOWER]
    room = np.maximum(curve[..., JAW_LINE] - edge, 0.15)
    rest = 1 - smooth(0.5 * thick, room, below)
    lip = edge - curve[..., LOWER] - shut * thick
    grow = thicker * smooth(0.0, thick + 0.01, below)
    middle = jaw - float(face.table[LOWER, TABLE_SIZE // 2])
    chin = float(np.clip(0.5 * middle, -0.25 * face.chin_room, 0.45 * face.chin_room))
    hang = chin * np.exp(-(((face.x - face.middle) / 0.75) ** 2))
    under = smooth(0.2 * room, room, below) * (1 - smooth(room, room + max(face.chin_room, 0.05), below))
    return np.asarray(((lip + grow) * rest + hang * under) * face.window, np.float32)


def _fine(face: FaceShape, coarse: Field, jaw: float) -> Warped:
    """Interpolates the coarse fields to pixels, and takes each pixel from its own side of the lip line."""
    height = FACE_SIZE - face.top
    fields = np.asarray(cv2.resize(coarse, (FACE_SIZE, height), interpolation=cv2.INTER_LINEAR), np.float32)
    move_x, move_up, move_down, below, above, lens = (fields[..., i] for i in range(6))
    move_y = np.where(below < above, move_up, move_down)
    axes = face.frame.axes
    columns = np.arange(FACE_SIZE, dtype=np.float32)
    rows = np.arange(face.top, FACE_SIZE, dtype=np.float32)[:, None]
    px = face.frame.down_px
    return Warped(
        map_x=columns - (axes[0, 0] * move_x + axes[0, 1] * move_y),
        map_y=rows - (axes[1, 0] * move_x + axes[1, 1] * move_y),
        below_upper=below * px,
        above_lower=above * px,
        lens=lens,
        jaw=jaw,
    )


def _lens(lens: Field, opening: float, round_: float, smile: float) -> Field:
    """The opening profile of the asked shape: a wide open mouth is an oval, not a wedge, and rounded lips touch near
    the corners and make an oval of the rest. A smile's lips touch less: its corners are dark, and would show as a line.
    """
    touching = 0.55 * round_ * (1 - 0.75 * smile)
    inner = np.clip((lens - touching) / (1 - touching), 0, 1)
    wide = min(max(opening - 0.1, 0.0) / 0.2, 1.0)
    return np.asarray(inner ** ((1 - 0.4 * round_ * (1 - 0.5 * smile)) * (1 - 0.35 * wide)), np.float32)
