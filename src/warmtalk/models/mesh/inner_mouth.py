"""Rendering of the inside of the mouth: teeth, tongue and the dark cavity behind the teeth.

The upper teeth are fixed to the head; the lower teeth and the tongue move with the jaw. Two textures are composited
into the opening, each by one `cv2.remap` at sub-pixel positions. A texture comes from an open mouth of the source
(source_teeth.py), or is synthetic (teeth.py) where the source shows no teeth. A source that always shows teeth keeps
them: the pixels of the open mouth of the source are composited over the synthetic teeth at the original position.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.mouth import OPENING, PRESS, PROTRUSION
from warmtalk.core.types import Image
from warmtalk.models.mesh.landmark_measures import Field
from warmtalk.models.mesh.lighting import SHADE_TINT, cheek_color, light_gain, opening_light
from warmtalk.models.mesh.mouth_profile import MouthProfile
from warmtalk.models.mesh.own_teeth import fit_bite, own_teeth_gain, own_teeth_mask
from warmtalk.models.mesh.shape import FaceShape
from warmtalk.models.mesh.source_teeth import SourceTeeth
from warmtalk.models.mesh.teeth import HALF_HEIGHT, HALF_WIDTH, TEXTURE_PX, TeethTexture, synthetic_teeth
from warmtalk.models.mesh.warp import WarpField

CAVITY_BGR = np.array([22, 20, 42], np.float32)
"""BGR of the depth of the mouth in good light."""
LIP_SHADOW = 0.014
"""Width in mouth units of the shadow on the inner edges of the lips."""
LIP_SHADOW_TINT = np.array([0.95, 1.0, 0.8], np.float32)
"""Strength of the lip shadow in each BGR channel."""
SOURCE_TEETH_LIT = 0.7
"""Share of the interior shading that is left out on a texture from the source, which contains real shading."""
BITE, BITE_BEND = 0.024, -0.16
"""Edge of synthetic upper teeth: distance below the lip line, and curvature (negative: up at the sides)."""


@dataclass(frozen=True, slots=True, eq=False)
class InnerMouth:
    """Appearance of the inner mouth of one source row. `prepare_mouth` creates the object; all fields are read-only."""

    light: Field
    """[3] gain of each colour channel relative to good light."""
    upper: TeethTexture
    lower: TeethTexture
    from_source: tuple[bool, bool]
    """True for the upper, the lower texture when the texture comes from the source."""
    bite: float
    """The middle row of the upper texture is at y = bite + bend * (x - middle)^2."""
    bend: float
    own_mask: npt.NDArray[np.uint8] | None
    """[256 - top, 256] 255 where source teeth are kept; None for a source that does not always show teeth."""


@dataclass(frozen=True, slots=True, eq=False)
class _OpeningRegion:
    """Part of a frame that fill_mouth changes, and the requested mouth."""

    rows: slice
    """Rows of the fields of WarpField; add FaceShape.top for rows of the face."""
    columns: slice
    below: Field
    """Pixels below the edge of the upper lip."""
    above: Field
    """Pixels above the edge of the lower lip."""
    profile: Field
    opening: float
    rounding: float
    press: float


def prepare_mouth(
    image: Image, pixels: Field, face: FaceShape, profile: MouthProfile, teeth: SourceTeeth
) -> InnerMouth:
    """Returns the inner mouth of one source row.

    `image` is the 256 x 256 source, `pixels` are landmarks in that image, `teeth` were found in the source.
    """
    light = light_gain(cheek_color(image, pixels))
    blur = round(0.6 * face.blur_px * TEXTURE_PX / face.mouth_frame.down_px)
    upper, lower = (synthetic_teeth(up, blur) for up in (True, False))
    if profile.own_teeth_weight > 0:
        mask = own_teeth_mask(face, profile.own_teeth_weight)
        bite, bend = fit_bite(face)
        light = own_teeth_gain(image[face.top :], mask, light)
        return InnerMouth(light, upper, lower, (False, False), bite, bend, mask)
    # The nose base is fixed to the head and therefore a reference for the teeth; the lips of a speaking source move.
    lip_line = face.nose_y + profile.lip_drop
    from_source = teeth.upper is not None, teeth.lower is not None
    upper, lower = (
        synthetic if own is None else own for own, synthetic in ((teeth.upper, upper), (teeth.lower, lower))
    )
    bite, bend = (0.0, 0.0) if from_source[0] else (BITE, BITE_BEND)
    return InnerMouth(light, upper, lower, from_source, lip_line + bite, bend, None)


def fill_mouth(
    image: Image, source: Image, face: FaceShape, inner: InnerMouth, warped: WarpField, features: Field
) -> None:
    """Renders the opening and the inner shadow of the lips into `image`, in place.

    `source` is the face before the warp, `features` the features row of `warped`.
    """
    region = _opening_region(face, warped, features)
    if region is None:
        return
    box = slice(face.top + region.rows.start, face.top + region.rows.stop), region.columns
    lips = image[box] * (1 - _lip_shadow(face, region)[..., None] * LIP_SHADOW_TINT)
    inside = _mouth_interior(face, inner, region, source[box], warped.lower_lip_y)
    edge = 1.4 * face.blur_px
    alpha = np.clip(region.below / edge + 0.5, 0, 1) + np.clip(region.above / edge + 0.5, 0, 1) - 1
    mixed = lips + (inside - lips) * np.clip(alpha, 0, 1)[..., None]
    image[box] = np.minimum(np.round(mixed), 255).astype(np.uint8)


def _opening_region(face: FaceShape, warped: WarpField, features: Field) -> _OpeningRegion | None:
    """Returns the bounding box of the opening and the lip shadow, or None for an empty box."""
    margin = 3 * _shadow_width(face)
    touched = (warped.below_upper > -margin) & (warped.above_lower > -margin) & (warped.opening_profile > 0)
    x, y, width, height = cv2.boundingRect(touched.view(np.uint8))
    if width == 0:
        return None
    rows, columns = slice(y, y + height), slice(x, x + width)
    below, above = warped.below_upper[rows, columns], warped.above_lower[rows, columns]
    requested = (float(features[i]) for i in (OPENING, PROTRUSION, PRESS))
    return _OpeningRegion(rows, columns, below, above, warped.opening_profile[rows, columns], *requested)


def _lip_shadow(face: FaceShape, region: _OpeningRegion) -> Field:
    """Returns the strength 0..1 of the shadow along the inner edge of the lips.

    Lips that touch in the source contain the dark lip line already, but lose the line when the lips are pressed.
    """
    openness = min(face.source_gap / 0.06, 1.0)
    strength = max(0.5 * openness, 0.4 * region.press, 0.35 * min(region.opening / 0.05, 1.0))
    outside = np.maximum(np.maximum(-region.below, -region.above), 0) / _shadow_width(face)
    return np.asarray(strength * np.exp(-(outside**2)) * np.minimum(4 * region.profile, 1), np.float32)


def _shadow_width(face: FaceShape) -> float:
    return max(LIP_SHADOW * face.mouth_frame.down_px, 0.7 * face.blur_px)


def _mouth_interior(face: FaceShape, inner: InnerMouth, region: _OpeningRegion, source: Image, lip_y: float) -> Field:
    """Returns [h, w, 3] float32 BGR of the open mouth. `lip_y` is the y of the edge of the lower lip."""
    x, y = _mouth_points(face, region.rows, region.columns)
    x -= face.middle_x
    colour = np.empty((*x.shape, 3), np.float32)
    colour[:] = CAVITY_BGR
    lower_y = y - lip_y if inner.from_source[1] else _below_lower_teeth(x, y, lip_y, region.opening)
    alphas = [_composite(colour, inner.lower, x, lower_y)]
    alphas.append(_composite(colour, inner.upper, x, y - inner.bite - inner.bend * x * x))
    colour *= inner.light
    shade = _interior_shading(region, face.mouth_frame.down_px)
    for alpha, from_source in zip(alphas, inner.from_source[::-1], strict=True):
        if from_source:  # a source texture contains real shading
            shade += (1 - shade) * alpha * SOURCE_TEETH_LIT
    shade *= opening_light(region.opening, region.rounding)
    if inner.own_mask is not None:
        own = inner.own_mask[region.rows, region.columns].astype(np.float32) / 255
        colour += (source - colour) * own[..., None]
        # The light in the source pixels is right for the opening of the source and fades with the difference.
        shade += (1 - shade) * own * (0.7 * (1 - region.rounding) * min(region.opening / max(face.source_gap, 0.01), 1))
    return np.asarray(colour * shade[..., None] ** SHADE_TINT, np.float32)


def _below_lower_teeth(x: Field, y: Field, lip_y: float, opening: float) -> Field:
    """Returns y relative to the edge of synthetic lower teeth.

    The teeth stay behind the lip and become visible above the lip in a wide open mouth.
    """
    edge = lip_y + 0.012 - 0.035 * float(np.clip((opening - 0.08) / 0.12, 0, 1))
    return np.asarray(y - edge + 0.22 * x * x, np.float32)


def _composite(colour: Field, texture: TeethTexture, x: Field, y: Field) -> Field:
    """Composites the texture over `colour` in place and returns the alpha, 0..1."""
    map_x, map_y = (x + HALF_WIDTH) * TEXTURE_PX - 0.5, (y + HALF_HEIGHT) * TEXTURE_PX - 0.5
    top = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = top[..., 3] * np.float32(1 / 255)
    colour += top[..., :3] - colour * alpha[..., None]
    return np.asarray(alpha, np.float32)


def _interior_shading(region: _OpeningRegion, px: float) -> Field:
    """Returns the light 0..1 inside the mouth, which decreases towards the lips and the corners."""
    under = 1 - 0.45 * np.exp(-np.maximum(region.below, 0) / (0.035 * px))
    over = 1 - 0.3 * np.exp(-np.maximum(region.above, 0) / (0.03 * px))
    corner = np.minimum(0.35 + 1.1 * region.profile, 1)
    return np.asarray(under * over * corner, np.float32)


def _mouth_points(face: FaceShape, rows: slice, columns: slice) -> tuple[Field, Field]:
    """Returns x and y in mouth units of the pixels of a region."""
    across = np.arange(columns.start, columns.stop, dtype=np.float32) - face.mouth_frame.origin[0]
    down = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + (face.top - face.mouth_frame.origin[1])
    inverse = np.linalg.inv(face.mouth_frame.axes).astype(np.float32)
    return (
        np.asarray(inverse[0, 0] * across + inverse[0, 1] * down, np.float32),
        np.asarray(inverse[1, 0] * across + inverse[1, 1] * down, np.float32),
    )
