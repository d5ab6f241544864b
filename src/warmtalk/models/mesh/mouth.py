"""What shows between the lips: teeth, tongue and the dark behind them.

The upper teeth are fixed to the head, the lower teeth and the tongue go with the jaw. Both are laid into the opening
by one `cv2.remap` each, at sub-pixel places: pictures from the source's own open mouth (donor.py), or drawn ones
(teeth.py) where it shows none. A source that always shows its own teeth keeps them: what its open mouth shows is
laid over the drawn teeth, where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.mouth import OPENING, PRESS, PROTRUSION
from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.mesh.lighting import SHADE_TINT, cheek_of, light_on, light_through
from warmtalk.models.mesh.mouth_profile import MouthProfile
from warmtalk.models.mesh.shape import LENS, LOWER, TABLE_REACH, TABLE_SIZE, UPPER, FaceShape, Field, look_up
from warmtalk.models.mesh.source_teeth import Picture, SourceTeeth
from warmtalk.models.mesh.teeth import PICTURE_PX, REACH_X, REACH_Y, TOOTH, teeth_picture
from warmtalk.models.mesh.warp import Warped

CAVITY = np.array([22, 20, 42], np.float32)
"""BGR of the depth of the mouth in good light."""
LIP_SHADOW = 0.014
"""Width in mouth units of the shadow on the lips' inner edges."""
LIP_SHADOW_TINT = np.array([0.95, 1.0, 0.8], np.float32)
FOUND_LIT = 0.7
"""Of that shadow, what a picture from the source does not need."""
BITE, BITE_BEND = 0.024, -0.16
"""The upper teeth's edge where the source does not show it: below the lip line, up at the sides."""


@dataclass(frozen=True, slots=True, eq=False)
class InnerMouth:
    """What the inside of one source row's mouth looks like; made once by `prepare_mouth`, then only read."""

    light: Field
    """[3] gain of each colour channel against good light."""
    upper: Picture
    lower: Picture
    found: tuple[bool, bool]
    """Whether the upper and the lower picture come from the source."""
    bite: float
    """The middle row of the upper picture is at y = bite + bend * (x - middle)^2."""
    bend: float
    own: npt.NDArray[np.uint8] | None
    """[256 - top, 256] 255 where the source's own teeth show; None where it has none to keep."""


@dataclass(frozen=True, slots=True, eq=False)
class _Opening:
    """The part of a frame that fill_mouth changes, and what it wants there."""

    rows: slice
    """Of the fields of Warped; face rows are `top` further down."""
    columns: slice
    below: Field
    """Pixels below the upper lip's edge; `above` the lower lip's."""
    above: Field
    lens: Field
    opening: float
    round_: float
    press: float


def prepare_mouth(
    picture: Image, pixels: Field, face: FaceShape, habit: MouthProfile, teeth: SourceTeeth
) -> InnerMouth:
    """`picture` is the 256 x 256 source, `pixels` its landmarks; `teeth` were found in the source."""
    light = light_on(cheek_of(picture, pixels))
    blur = round(0.6 * face.blur_px * PICTURE_PX / face.frame.down_px)
    upper, lower = (teeth_picture(up, blur) for up in (True, False))
    if habit.own_teeth > 0:
        own = _own_teeth(face, habit.own_teeth)
        bite, bend = _own_bite(face)
        light = _own_light(picture[face.top :], own, light)
        return InnerMouth(light, upper, lower, (False, False), bite, bend, own)
    # The base of the nose stays with the head; the lips of a source that speaks do not.
    lip_line = face.nose + habit.lip_drop
    found = teeth.upper is not None, teeth.lower is not None
    upper, lower = (drawn if own is None else own for own, drawn in ((teeth.upper, upper), (teeth.lower, lower)))
    bite, bend = (0.0, 0.0) if found[0] else (BITE, BITE_BEND)
    return InnerMouth(light, upper, lower, found, lip_line + bite, bend, None)


def fill_mouth(picture: Image, source: Image, face: FaceShape, inner: InnerMouth, warped: Warped, want: Field) -> None:
    """Draws the opening and the lips' inner shadow into `picture` in place.

    `source` is the face before the warp, `want` the features row that `warped` was made for.
    """
    part = _opening(face, warped, want)
    if part is None:
        return
    place = slice(face.top + part.rows.start, face.top + part.rows.stop), part.columns
    lips = picture[place] * (1 - _lip_shadow(face, part)[..., None] * LIP_SHADOW_TINT)
    inside = _inside(face, inner, part, source[place], warped.jaw)
    edge = 1.4 * face.blur_px
    cover = np.clip(part.below / edge + 0.5, 0, 1) + np.clip(part.above / edge + 0.5, 0, 1) - 1
    drawn = lips + (inside - lips) * np.clip(cover, 0, 1)[..., None]
    picture[place] = np.minimum(np.round(drawn), 255).astype(np.uint8)


def _opening(face: FaceShape, warped: Warped, want: Field) -> _Opening | None:
    near = 3 * _shadow_width(face)
    touched = (warped.below_upper > -near) & (warped.above_lower > -near) & (warped.lens > 0)
    x, y, width, height = cv2.boundingRect(touched.view(np.uint8))
    if width == 0:
        return None
    rows, columns = slice(y, y + height), slice(x, x + width)
    below, above = warped.below_upper[rows, columns], warped.above_lower[rows, columns]
    wants = (float(want[i]) for i in (OPENING, PROTRUSION, PRESS))
    return _Opening(rows, columns, below, above, warped.lens[rows, columns], *wants)


def _lip_shadow(face: FaceShape, part: _Opening) -> Field:
    """The dark along the lips' inner edge. Lips that touch in the source bring their own line along, but lose it
    where they are pressed."""
    apart = min(face.gap / 0.06, 1.0)
    strength = max(0.5 * apart, 0.4 * part.press, 0.35 * min(part.opening / 0.05, 1.0))
    outside = np.maximum(np.maximum(-part.below, -part.above), 0) / _shadow_width(face)
    return np.asarray(strength * np.exp(-(outside**2)) * np.minimum(4 * part.lens, 1), np.float32)


def _shadow_width(face: FaceShape) -> float:
    return max(LIP_SHADOW * face.frame.down_px, 0.7 * face.blur_px)


def _inside(face: FaceShape, inner: InnerMouth, part: _Opening, source: Image, lip: float) -> Field:
    """[h, w, 3] float32 BGR of the open mouth. `lip` is the y of the lower lip's edge."""
    x, y = _mouth_points(face, part.rows, part.columns)
    x -= face.middle
    colour = np.empty((*x.shape, 3), np.float32)
    colour[:] = CAVITY
    low = y - lip if inner.found[1] else _behind_lip(x, y, lip, part.opening)
    covers = [_lay(colour, inner.lower, x, low), _lay(colour, inner.upper, x, y - inner.bite - inner.bend * x * x)]
    colour *= inner.light
    shade = _shade(part, face.frame.down_px)
    for cover, found in zip(covers, inner.found[::-1], strict=True):
        if found:  # its own shadows are in the picture
            shade += (1 - shade) * cover * FOUND_LIT
    shade *= light_through(part.opening, part.round_)
    if inner.own is not None:
        own = inner.own[part.rows, part.columns].astype(np.float32) / 255
        colour += (source - colour) * own[..., None]
        # The source's own light is right where the source's own opening is.
        shade += (1 - shade) * own * (0.7 * (1 - part.round_) * min(part.opening / max(face.gap, 0.01), 1))
    return np.asarray(colour * shade[..., None] ** SHADE_TINT, np.float32)


def _behind_lip(x: Field, y: Field, lip: float, opening: float) -> Field:
    """y against the edge of the drawn lower teeth: they stay behind the lip, and look over it in a wide open mouth."""
    jaw = lip + 0.012 - 0.035 * float(np.clip((opening - 0.08) / 0.12, 0, 1))
    return np.asarray(y - jaw + 0.22 * x * x, np.float32)


def _lay(colour: Field, picture: Picture, x: Field, y: Field) -> Field:
    """Lays the picture over `colour` and returns its cover, 0..1."""
    map_x, map_y = (x + REACH_X) * PICTURE_PX - 0.5, (y + REACH_Y) * PICTURE_PX - 0.5
    top = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = top[..., 3] * np.float32(1 / 255)
    colour += top[..., :3] - colour * cover[..., None]
    return np.asarray(cover, np.float32)


def _shade(part: _Opening, px: float) -> Field:
    """Light along the lips and in the corners, where there is less."""
    under = 1 - 0.45 * np.exp(-np.maximum(part.below, 0) / (0.035 * px))
    over = 1 - 0.3 * np.exp(-np.maximum(part.above, 0) / (0.03 * px))
    corner = np.minimum(0.35 + 1.1 * part.lens, 1)
    return np.asarray(under * over * corner, np.float32)


def _mouth_points(face: FaceShape, rows: slice, columns: slice) -> tuple[Field, Field]:
    across = np.arange(columns.start, columns.stop, dtype=np.float32) - face.frame.origin[0]
    down = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + (face.top - face.frame.origin[1])
    inverse = np.linalg.inv(face.frame.axes).astype(np.float32)
    return (
        np.asarray(inverse[0, 0] * across + inverse[0, 1] * down, np.float32),
        np.asarray(inverse[1, 0] * across + inverse[1, 1] * down, np.float32),
    )


def _own_teeth(face: FaceShape, share: float) -> npt.NDArray[np.uint8]:
    """Where the source shows its teeth, without the edges of the lips and the corners."""
    curve = look_up(face.table, face.x)
    fields = np.stack([face.y - curve[..., UPPER], curve[..., LOWER] - face.y, curve[..., LENS]], -1)
    fine = cv2.resize(fields, (FACE_SIZE, FACE_SIZE - face.top), interpolation=cv2.INTER_LINEAR)
    below, above, lens = cv2.split(fine)
    soft = face.frame.down_px / 1.5
    inside = np.clip(below * soft - 0.7, 0, 1) * np.clip(above * soft - 1.5, 0, 1) * np.clip(lens * 4 - 1.4, 0, 1)
    return np.asarray(np.round(inside * share * 255), np.uint8)


def _own_bite(face: FaceShape) -> tuple[float, float]:
    """Bite and bend of drawn teeth that end where the source's own do: at its lower lip."""
    x = np.linspace(-TABLE_REACH, TABLE_REACH, TABLE_SIZE) - face.middle
    near = np.abs(x) < 0.3
    bend, _, bite = np.polyfit(x[near], face.table[LOWER][near], 2)
    return float(bite), float(np.clip(bend, -0.6, 0.2))


def _own_light(lower: Image, own: npt.NDArray[np.uint8], light: Field) -> Field:
    """Gain that gives drawn teeth the colour of the source's own; `light` where hardly any show."""
    pixels = lower[own > 200].astype(np.float32)
    if len(pixels) < 50:
        return light
    bright = pixels[pixels[:, 1] >= np.percentile(pixels[:, 1], 60)].mean(0)
    return np.asarray(np.clip(bright / (0.9 * TOOTH), 0.3, 1.15), np.float32)
