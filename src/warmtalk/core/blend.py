"""Blends a generated face into its frame within the mask. The result is the patch, which is sent and stored."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from warmtalk.core.color_match import ColorMatcher
from warmtalk.core.masks import soften_edges
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Mask

METHODS = ("feather", "poisson")
"""Values of infer.blend."""


@dataclass(frozen=True, slots=True)
class Blending:
    """Method of blending a generated face into its frame."""

    method: str = "feather"
    """One of METHODS. "feather" uses the mask alone; "poisson" keeps the gradients of the face, see color_match.py."""
    colour_match: bool = False
    """Adjusts the face to the colours of the frame, see color_match.py. Always part of "poisson"."""
    soft_edges: bool = False
    """Widens the feather where the edge of the mask runs through a beard or along a shadow, see masks.soften_edges."""
    sharpen: bool = False
    """Sharpens upscaled faces before blending, see sharpen.py."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"infer.blend is {self.method!r}, not one of {', '.join(METHODS)}")


PLAIN = Blending()
"""Blending of the reference."""


class BlendRegion:
    """One source row, prepared for blending. Immutable, therefore thread-safe. Takes about 12 bytes per pixel.

    For a `Box` the result equals the reference bit for bit, `round((source * (255 - mask) + face * mask) / 255)`,
    cropped to the smallest box with possible changes: the intersection of frame, face box and mask. Outside the face
    box the reference blends the frame with itself. For a `FloatBox` the face is placed with sub-pixel precision.
    """

    def __init__(self, frame: Image, mask: Mask, face: Box | FloatBox, crop: Box, blending: Blending = PLAIN) -> None:
        """`mask` is [S, S] over `crop`. Raises ValueError for a mask of another size."""
        if mask.shape != (crop.height, crop.width):
            raise ValueError(f"a mask of {mask.shape} does not fit {crop}")
        if blending.soft_edges:
            mask = soften_edges(mask, frame, crop)
        self.box = _changed_box(frame, mask, face if isinstance(face, Box) else face.box(), crop)
        box = self.box
        self._stretch = _WholePixelResize(face, box) if isinstance(face, Box) else _SubPixelWarp(face, box)
        harmonic = blending.method == "poisson"
        match_colors = blending.colour_match or harmonic
        self._matcher = ColorMatcher(frame, mask, face, crop, harmonic=harmonic) if match_colors else None
        alpha = mask[box.y1 - crop.y1 : box.y2 - crop.y1, box.x1 - crop.x1 : box.x2 - crop.x1]
        # Three equal channels: a broadcast for each face would cost more than the memory.
        self._alpha = np.repeat(alpha[:, :, None], 3, 2).astype(np.uint16)
        # The term that is constant over faces, plus 128 for rounding in the division.
        self._source = frame[box.y1 : box.y2, box.x1 : box.x2] * (255 - self._alpha) + np.uint16(128)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._alpha.nbytes + self._source.nbytes + (self._matcher.nbytes if self._matcher else 0)

    def blend(self, face: Image) -> tuple[Box, Image]:
        """Returns the changed box of the frame and the new pixels, given a [256, 256, 3] face.

        The box is empty when the mask is empty or lies outside the frame. Raises ValueError for a face of another size.
        """
        if face.shape != (FACE_SIZE, FACE_SIZE, 3):
            raise ValueError(f"a face is [{FACE_SIZE}, {FACE_SIZE}, 3], not {face.shape}")
        if self.box.empty:
            return self.box, np.empty((self.box.height, self.box.width, 3), np.uint8)
        stretched = self._stretch(self._matcher.match(face) if self._matcher else face)
        total = stretched.astype(np.uint16)
        total *= self._alpha
        total += self._source
        total += total >> 8  # together with the next shift an exact rounding division by 255
        total >>= 8
        return self.box, total.astype(np.uint8)


class _WholePixelResize:
    """Resizes the face to the whole box with `cv2.resize`, as the reference does, then crops the part."""

    def __init__(self, face: Box, part: Box) -> None:
        self._size = (face.width, face.height)
        self._part = np.s_[part.y1 - face.y1 : part.y2 - face.y1, part.x1 - face.x1 : part.x2 - face.x1]

    def __call__(self, face: Image) -> Image:
        return np.asarray(cv2.resize(face, self._size, interpolation=cv2.INTER_LINEAR)[self._part], np.uint8)


class _SubPixelWarp:
    """Warps the face to the part alone, with the affine transform of a sub-pixel box."""

    def __init__(self, face: FloatBox, part: Box) -> None:
        across, down = face.width / FACE_SIZE, face.height / FACE_SIZE
        left, top = face.x1 - part.x1, face.y1 - part.y1
        self._size = (part.width, part.height)
        # Pixel centres have half-integer box coordinates.
        self._matrix = np.array([[across, 0, left + 0.5 * across - 0.5], [0, down, top + 0.5 * down - 0.5]])

    def __call__(self, face: Image) -> Image:
        warped = cv2.warpAffine(face, self._matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.uint8)


def _changed_box(frame: Image, mask: Mask, face: Box, crop: Box) -> Box:
    x, y, width, height = cv2.boundingRect(mask)
    left, top = max(crop.x1 + x, face.x1, 0), max(crop.y1 + y, face.y1, 0)
    right = min(crop.x1 + x + width, face.x2, frame.shape[1])
    bottom = min(crop.y1 + y + height, face.y2, frame.shape[0])
    if right <= left or bottom <= top:
        return Box(0, 0, 0, 0)
    return Box(left, top, right, bottom)
