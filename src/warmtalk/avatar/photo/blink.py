"""Blinking on a photo: the upper lid slides over the eye as a layer of its own.

Near the lashes the lid moves as it is, so that they keep their shape; the skin for it comes from the fold under the
brow, as in life. The eye under it stays where it is and is covered, not squeezed.
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
"""Mesh points of each eye, from the picture's left to its right: upper lid, lower lid, lower edge of the brow."""

_LEAST_ROOM, _MOST_ROOM = 0.7, 3.0
"""How far up the skin gives way, in openings of the eye."""
_RIGID = 0.4
"""So far above its line the lid moves as it is, with the lashes; in openings."""
_SKIN_SHARE = 0.85
"""Part of the way from lid to brow that is skin, where no brow is seen."""
_BROW_CONTRAST = 12.0
"""Grey levels by which a brow is darker than the skin under it."""
_SMOOTHING = 0.25
"""Stretched skin would show streaks: it is blurred along the lid by this part of the opening."""
_WIDER, _DEEPER = 1.18, 0.2
"""The mesh runs along the inside of the lids: the eye is that much wider, and the lid closes that part of the
opening beyond the lower line, or a rim of white would stay."""
_LASHES = 0.06
"""The layer ends this part of the opening below the lid's line, where the lashes are."""
_TINT = 0.7
"""The skin under the brow lies in its shade and has hairs in it: so much of its difference to the skin under the eye is
taken away where it is stretched.
"""
_LASH_SHADE, _LASH_WIDTH = 0.3, 0.12
"""The closing edge is darkened by this much, over this part of the opening: lashes seen from above."""
_CURVE_ORDER = 4
_BISECTIONS = 14


class Blinker:
    """Both eyes of one photo. Immutable."""

    def __init__(self, image: Image, mesh: Points) -> None:
        """[H, W, 3] uint8 BGR and its [468, 2] points. A face without open eyes does not blink."""
        self._image = image
        self._mesh = mesh
        eyes = [_Eye.of(image, mesh[list(upper)], mesh[list(lower)], mesh[list(brow)]) for upper, lower, brow in _EYES]
        self._eyes = [eye for eye in eyes if eye is not None]

    def image(self, closed: float) -> Image:
        """The photo with its eyes this far closed, 0 to 1. The photo itself at 0."""
        if closed <= 0:
            return self._image
        result = self._image.copy()
        for eye in self._eyes:
            eye.draw(self._image, result, closed)
        return result

    def mesh(self, closed: float) -> Points:
        """The points that belong to `image(closed)`."""
        points = self._mesh
        for eye in self._eyes:
            points = eye.moved(points, closed)
        return points


@dataclass(frozen=True, slots=True, eq=False)
class _Eye:
    """One eye in coordinates of its own: u along the line of its corners, v down from it. Pixels."""

    centre: _Array
    """[2] middle of the corners in the picture."""
    axes: _Array
    """[2, 2] rows: directions of u and v in the picture."""
    half: float
    """u of the corners is -half and half."""
    upper: npt.NDArray[np.float64]
    """Polynomial v(u) of the upper lid."""
    lower: npt.NDArray[np.float64]
    brow: npt.NDArray[np.float64]
    """The lower edge of the brow."""
    opening: float
    """Largest gap between the lids."""
    skin: float = _SKIN_SHARE
    """Part of the way from lid to brow that is skin."""
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """BGR from the skin over the eye to that under it."""

    @classmethod
    def of(cls, image: Image, upper: Points, lower: Points, brow: Points) -> _Eye | None:
        """None for an eye that is shut or seen from the side."""
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
        """Found in the picture, as the mesh knows no brow by its hairs: from the lid up, the brightest place is skin,
        and a clear fall of brightness above it is where the brow begins.
        """
        t, u = np.meshgrid(np.linspace(0, 1, 32), np.linspace(-0.6, 0.6, 16) * self.half, indexing="ij")
        lid, brow = np.polyval(self.upper, u), np.polyval(self.brow, u)
        bright = cv2.cvtColor(self._sample(image, u, lid + (brow - lid) * t), cv2.COLOR_BGR2GRAY).mean(1)
        lashes = int(np.argmax(t[:, 0] * float((lid - brow).mean()) > _RIGID * self.opening))
        skin = lashes + int(bright[lashes:].argmax())
        fall = float(bright[skin] - bright[skin:].min())
        if fall < _BROW_CONTRAST:
            return _SKIN_SHARE
        return float(t[skin + int(np.argmax(bright[skin:] < bright[skin] - 0.35 * fall)), 0])

    def _tint(self, image: Image) -> tuple[float, float, float]:
        grid = np.meshgrid(np.linspace(0, 1, 8), np.linspace(-0.6, 0.6, 16) * self.half, indexing="ij")
        t, u = (np.asarray(one, np.float32) for one in grid)
        lashes = _RIGID * self.opening
        over = self._sample(image, u, self._lid(u) - lashes - t * (self._room(u) - lashes))
        under = self._sample(image, u, np.polyval(self.lower, u) + (0.3 + 0.5 * t) * self.opening)
        blue, green, red = (np.median(under, (0, 1)) - np.median(over, (0, 1))) * _TINT
        return float(blue), float(green), float(red)

    def _sample(self, image: Image, u: npt.NDArray[Any], v: npt.NDArray[Any]) -> Image:
        at = (np.stack([u, v], -1) @ self.axes + self.centre).astype(np.float32)
        found = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        return np.asarray(found, np.uint8)

    def draw(self, source: Image, target: Image, closed: float) -> None:
        """Covers the eye of `target` with the lid of `source`."""
        box = self._box(source)
        if box.empty:
            return
        y, x = np.mgrid[box.y1 : box.y2, box.x1 : box.x2].astype(np.float32)
        u, v = self._local(x, y)
        lid, slide = self._lid(u), self._opening(u) * np.float32(closed)
        from_v = self._unslid(u, v, lid, slide)
        back = np.stack([u, from_v], -1) @ self.axes + self.centre
        layer = self._layer(source, back.astype(np.float32), self._share(u, from_v - lid), slide)
        edge = lid + slide + _LASHES * self._opening(u)
        lashes = np.exp(-(((edge - v) / (_LASH_WIDTH * self.opening)) ** 2)) * slide / self.opening
        layer = layer * (1 - _LASH_SHADE * np.clip(lashes, 0, 1))[..., None]
        cover = (np.clip(edge - v + 0.5, 0, 1) * (slide > 0))[..., None]
        part = target[box.y1 : box.y2, box.x1 : box.x2]
        part[:] = np.rint(part + (layer - part) * cover).astype(np.uint8)

    def _layer(self, source: Image, back: _Array, share: _Array, slide: _Array) -> _Array:
        """The lid: sharp where it moves as it is, smoothed along its line where it is stretched."""
        sharp = cv2.remap(source, back, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        soft = cv2.GaussianBlur(sharp, (0, 0), sigmaX=_SMOOTHING * self.opening, sigmaY=0.3)
        stretched = (4 * share * (1 - share) * np.clip(slide / self.opening, 0, 1))[..., None]
        soft = soft + np.array(self.tint, np.float32)
        return np.asarray(np.clip(sharp + (soft - sharp) * stretched, 0, 255), np.float32)

    def moved(self, points: Points, closed: float) -> Points:
        """[K, 2] picture points after the lid has moved. Those of the eye and below stay."""
        u, v = self._local(points[:, 0], points[:, 1])
        # The points of the two lids meet, they do not pass each other.
        lid, slide = self._lid(u), self._opening(u, deeper=0) * np.float32(closed)
        below = v > lid + _LASHES * self._opening(u) + 1
        shift = np.where(below, 0, slide * self._share(u, v - lid))
        return np.asarray(points + shift[:, None] * self.axes[1], np.float32)

    def _local(self, x: _Array, y: _Array) -> tuple[_Array, _Array]:
        dx, dy = x - self.centre[0], y - self.centre[1]
        return dx * self.axes[0, 0] + dy * self.axes[0, 1], dx * self.axes[1, 0] + dy * self.axes[1, 1]

    def _lid(self, u: _Array) -> _Array:
        return np.asarray(np.polyval(self.upper, np.clip(u, -self.half, self.half)), np.float32)

    def _opening(self, u: _Array, deeper: float = _DEEPER) -> _Array:
        """From lid to lid and a little further; 0 beyond the corners."""
        inside = np.clip(u, -self.half, self.half)
        gap = np.polyval(self.lower, inside) - np.polyval(self.upper, inside) + deeper * self.opening
        # The fitted curves need not meet exactly at the corners.
        taper = np.clip((1 - np.abs(u) / self.half) * 6, 0, 1)
        return np.asarray(np.maximum(gap, 0) * taper, np.float32)

    def _room(self, u: _Array) -> _Array:
        """How far above the lid the skin gives way."""
        inside = np.clip(u, -self.half, self.half)
        above = (np.polyval(self.upper, inside) - np.polyval(self.brow, inside)) * self.skin
        return np.asarray(np.clip(above, _LEAST_ROOM * self.opening, _MOST_ROOM * self.opening), np.float32)

    def _share(self, u: _Array, above: _Array) -> _Array:
        """How much of the slide a place moves by that lies so far from the lid's line (negative is above)."""
        rigid = _RIGID * self.opening
        t = np.clip((above + self._room(u)) / (self._room(u) - rigid), 0, 1)
        return np.asarray(t * t * (3 - 2 * t), np.float32)

    def _unslid(self, u: _Array, v: _Array, lid: _Array, slide: _Array) -> _Array:
        """v of the source for v of the result. The slide only stretches, so there is exactly one."""
        low: _Array = v - slide
        high = v
        for _ in range(_BISECTIONS):
            middle = np.asarray((low + high) / 2, np.float32)
            too_far = middle + slide * self._share(u, middle - lid) > v
            high = np.where(too_far, middle, high)
            low = np.where(too_far, low, middle)
        return np.asarray((low + high) / 2, np.float32)

    def _box(self, image: Image) -> Box:
        u, v = np.meshgrid([-self.half, self.half], [-self.half - _MOST_ROOM * self.opening, self.half])
        corners = np.stack([u, v], -1).reshape(-1, 2) @ self.axes + self.centre
        (x1, y1), (x2, y2) = np.floor(corners.min(0)), np.ceil(corners.max(0)) + 1
        return Box(int(x1), int(y1), int(x2), int(y2)).clipped(image.shape[1], image.shape[0])
