"""Blinking in a photo: the upper lid slides over the eye as a separate layer.

Near the lashes the lid moves rigidly, so that the lashes keep their shape; the skin above stretches from the fold under
the brow, as in real life. The eye stays in place and is covered, not squeezed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image, Points

_Array = npt.NDArray[np.float32]

# fmt: off
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133), (46, 53, 52, 65, 55)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263),
     (285, 295, 282, 283, 276)),
)
# fmt: on
"""Mesh points of each eye, from left to right in the image: upper lid, lower lid, lower edge of the brow."""

_MIN_STRETCH, _MAX_STRETCH = 0.7, 3.0
"""Height above the lid over which the skin stretches, in openings of the eye."""
_RIGID = 0.4
"""Height above the lid's edge that moves rigidly with the lashes, in openings."""
_SKIN_SHARE = 0.85
"""Share of the way from lid to brow that is skin, where no brow is detected."""
_BROW_CONTRAST = 12.0
"""Minimum number of grey levels by which a brow is darker than the skin below the brow."""
_SMOOTHING = 0.25
"""Stretched skin would show streaks: the skin is blurred along the lid by this share of the opening."""
_WIDER, _DEEPER = 1.18, 0.2
"""The mesh runs along the inside of the lids: the eye is wider by the first factor, and the lid closes beyond the lower
line by the second share of the opening, because a white rim would remain otherwise."""
_LASHES = 0.06
"""Distance below the lid's edge at which the layer ends, relative to the opening: the lashes lie there."""
_TINT = 0.7
"""The skin under the brow is shaded and has hairs: this share of its colour difference to the skin under the eye is
removed where the skin is stretched."""
_LASH_SHADE, _LASH_WIDTH = 0.3, 0.12
"""Darkening of the closing edge, and its width relative to the opening: the lashes seen from above."""
_CURVE_ORDER = 4
_BISECTIONS = 14


class BlinkLayer:
    """Both eyes of one photo. Immutable."""

    def __init__(self, image: Image, mesh: Points) -> None:
        """`image` is [H, W, 3] uint8 BGR, `mesh` its [468, 2] points. A face without open eyes does not blink."""
        self._image = image
        self._mesh = mesh
        eyes = [
            _Eye.from_points(image, mesh[list(upper)], mesh[list(lower)], mesh[list(brow)])
            for upper, lower, brow in _EYES
        ]
        self._eyes = [eye for eye in eyes if eye is not None]

    def image(self, closure: float) -> Image:
        """Returns the photo with the eyes closed by `closure`, 0 to 1; the photo itself at 0."""
        if closure <= 0:
            return self._image
        result = self._image.copy()
        for eye in self._eyes:
            eye.render(self._image, result, closure)
        return result

    def mesh(self, closure: float) -> Points:
        """Returns the mesh points of `image(closure)`."""
        points = self._mesh
        for eye in self._eyes:
            points = eye.moved(points, closure)
        return points


@dataclass(frozen=True, slots=True, eq=False)
class _Eye:
    """One eye in local coordinates, pixels: u along the line between the corners, v downwards from the line."""

    centre: _Array
    """[2] midpoint of the corners in the image."""
    axes: _Array
    """[2, 2] rows: directions of u and v in the image."""
    half: float
    """The corners are at u = -half and u = half."""
    upper: npt.NDArray[np.float64]
    """Polynomial v(u) of the upper lid."""
    lower: npt.NDArray[np.float64]
    brow: npt.NDArray[np.float64]
    """The lower edge of the brow."""
    opening: float
    """Largest gap between the lids."""
    skin: float = _SKIN_SHARE
    """Share of the way from lid to brow that is skin."""
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """BGR difference from the skin above the eye to the skin below the eye."""

    @classmethod
    def from_points(cls, image: Image, upper: Points, lower: Points, brow: Points) -> _Eye | None:
        """Returns None for an eye that is closed or seen from the side."""
        centre = (upper[0] + upper[-1]) / 2
        along = upper[-1] - upper[0]
        length = float(np.linalg.norm(along))
        if length < 4:
            return None
        along = along / length
        half = _WIDER * length / 2
        axes = np.array([along, [-along[1], along[0]]], np.float32)
        top, bottom, edge = ((points - centre) @ axes.T for points in (upper, lower, brow))
        opening = float((bottom[1:-1, 1] - top[1:-1, 1]).max())
        if opening < 1 or opening < 0.05 * length:
            return None
        upper_lid, lower_lid = (np.polyfit(line[:, 0] * _WIDER, line[:, 1], _CURVE_ORDER) for line in (top, bottom))
        eye = cls(centre, axes, half, upper_lid, lower_lid, np.polyfit(edge[:, 0], edge[:, 1], 2), opening)
        eye = replace(eye, skin=eye._skin_share(image))
        return replace(eye, tint=eye._tint(image))

    def _skin_share(self, image: Image) -> float:
        """Returns the share of skin between lid and brow, measured in the image.

        The mesh does not follow the hairs of a brow. Upwards from the lid, the brightest position is skin, and a clear
        drop of the brightness above that position marks the start of the brow.
        """
        t, u = np.meshgrid(np.linspace(0, 1, 32), np.linspace(-0.6, 0.6, 16) * self.half, indexing="ij")
        lid, brow = np.polyval(self.upper, u), np.polyval(self.brow, u)
        brightness = cv2.cvtColor(self._sample(image, u, lid + (brow - lid) * t), cv2.COLOR_BGR2GRAY).mean(1)
        lashes = int(np.argmax(t[:, 0] * float((lid - brow).mean()) > _RIGID * self.opening))
        skin = lashes + int(brightness[lashes:].argmax())
        drop = float(brightness[skin] - brightness[skin:].min())
        if drop < _BROW_CONTRAST:
            return _SKIN_SHARE
        return float(t[skin + int(np.argmax(brightness[skin:] < brightness[skin] - 0.35 * drop)), 0])

    def _tint(self, image: Image) -> tuple[float, float, float]:
        """Returns the colour correction of the stretched skin, see `tint`."""
        grid = np.meshgrid(np.linspace(0, 1, 8), np.linspace(-0.6, 0.6, 16) * self.half, indexing="ij")
        t, u = (np.asarray(one, np.float32) for one in grid)
        lashes = _RIGID * self.opening
        over = self._sample(image, u, self._lid(u) - lashes - t * (self._stretch_height(u) - lashes))
        under = self._sample(image, u, np.polyval(self.lower, u) + (0.3 + 0.5 * t) * self.opening)
        blue, green, red = (np.median(under, (0, 1)) - np.median(over, (0, 1))) * _TINT
        return float(blue), float(green), float(red)

    def _sample(self, image: Image, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> Image:
        at = (np.stack([u, v], -1) @ self.axes + self.centre).astype(np.float32)
        sampled = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        return np.asarray(sampled, np.uint8)

    def render(self, source: Image, target: Image, closure: float) -> None:
        """Covers the eye of `target` with the lid of `source`, in place."""
        box = self._box(source)
        if box.empty:
            return
        y, x = np.mgrid[box.y1 : box.y2, box.x1 : box.x2].astype(np.float32)
        u, v = self._local(x, y)
        lid, slide = self._lid(u), self._opening(u) * np.float32(closure)
        source_v = self._source_v(u, v, lid, slide)
        positions = np.stack([u, source_v], -1) @ self.axes + self.centre
        layer = self._layer(source, positions.astype(np.float32), self._slide_share(u, source_v - lid), slide)
        edge = lid + slide + _LASHES * self._opening(u)
        lashes = np.exp(-(((edge - v) / (_LASH_WIDTH * self.opening)) ** 2)) * slide / self.opening
        layer = layer * (1 - _LASH_SHADE * np.clip(lashes, 0, 1))[..., None]
        cover = (np.clip(edge - v + 0.5, 0, 1) * (slide > 0))[..., None]
        part = target[box.y1 : box.y2, box.x1 : box.x2]
        part[:] = np.rint(part + (layer - part) * cover).astype(np.uint8)

    def _layer(self, source: Image, positions: _Array, share: _Array, slide: _Array) -> _Array:
        """Returns the lid: sharp where the lid moves rigidly, blurred along its edge where the skin is stretched."""
        sharp = cv2.remap(source, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        soft = cv2.GaussianBlur(sharp, (0, 0), sigmaX=_SMOOTHING * self.opening, sigmaY=0.3)
        stretched = (4 * share * (1 - share) * np.clip(slide / self.opening, 0, 1))[..., None]
        soft = soft + np.array(self.tint, np.float32)
        return np.asarray(np.clip(sharp + (soft - sharp) * stretched, 0, 255), np.float32)

    def moved(self, points: Points, closure: float) -> Points:
        """Returns [K, 2] image points after the lid has moved. Points of the eye and below do not move."""
        u, v = self._local(points[:, 0], points[:, 1])
        # The points of the two lids meet but do not pass each other.
        lid, slide = self._lid(u), self._opening(u, deeper=0) * np.float32(closure)
        below = v > lid + _LASHES * self._opening(u) + 1
        shift = np.where(below, 0, slide * self._slide_share(u, v - lid))
        return np.asarray(points + shift[:, None] * self.axes[1], np.float32)

    def _local(self, x: _Array, y: _Array) -> tuple[_Array, _Array]:
        dx, dy = x - self.centre[0], y - self.centre[1]
        return dx * self.axes[0, 0] + dy * self.axes[0, 1], dx * self.axes[1, 0] + dy * self.axes[1, 1]

    def _lid(self, u: _Array) -> _Array:
        return np.asarray(np.polyval(self.upper, np.clip(u, -self.half, self.half)), np.float32)

    def _opening(self, u: _Array, deeper: float = _DEEPER) -> _Array:
        """Returns the distance from lid to lid plus `deeper`; 0 beyond the corners."""
        inside = np.clip(u, -self.half, self.half)
        gap = np.polyval(self.lower, inside) - np.polyval(self.upper, inside) + deeper * self.opening
        # The fitted curves do not meet exactly at the corners.
        taper = np.clip((1 - np.abs(u) / self.half) * 6, 0, 1)
        return np.asarray(np.maximum(gap, 0) * taper, np.float32)

    def _stretch_height(self, u: _Array) -> _Array:
        """Returns the height above the lid over which the skin stretches."""
        inside = np.clip(u, -self.half, self.half)
        above = (np.polyval(self.upper, inside) - np.polyval(self.brow, inside)) * self.skin
        return np.asarray(np.clip(above, _MIN_STRETCH * self.opening, _MAX_STRETCH * self.opening), np.float32)

    def _slide_share(self, u: _Array, above: _Array) -> _Array:
        """Returns the share of the slide by which a point moves, by distance from the lid's edge (negative: above)."""
        rigid = _RIGID * self.opening
        t = np.clip((above + self._stretch_height(u)) / (self._stretch_height(u) - rigid), 0, 1)
        return np.asarray(t * t * (3 - 2 * t), np.float32)

    def _source_v(self, u: _Array, v: _Array, lid: _Array, slide: _Array) -> _Array:
        """Returns v in the source for v in the result. The slide is monotonic, so the solution is unique."""
        low: _Array = v - slide
        high = v
        for _ in range(_BISECTIONS):
            middle = np.asarray((low + high) / 2, np.float32)
            too_far = middle + slide * self._slide_share(u, middle - lid) > v
            high = np.where(too_far, middle, high)
            low = np.where(too_far, low, middle)
        return np.asarray((low + high) / 2, np.float32)

    def _box(self, image: Image) -> Box:
        u, v = np.meshgrid([-self.half, self.half], [-self.half - _MAX_STRETCH * self.opening, self.half])
        corners = np.stack([u, v], -1).reshape(-1, 2) @ self.axes + self.centre
        (x1, y1), (x2, y2) = np.floor(corners.min(0)), np.ceil(corners.max(0)) + 1
        return Box(int(x1), int(y1), int(x2), int(y2)).clipped(image.shape[1], image.shape[0])
