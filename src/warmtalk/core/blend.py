"""Puts a generated face into its frame, only where the mask lets it: the part that is stored, sent and pasted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from warmtalk.core.color_match import ColorMatcher
from warmtalk.core.masks import soften_edges
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Mask

METHODS = ("feather", "poisson")


@dataclass(frozen=True, slots=True)
class Blending:
    """How a generated face is brought into its frame."""

    method: str = "feather"
    """ "feather": by the mask alone; "poisson": its gradients alone are taken, see tone.py."""
    colour_match: bool = False
    """Part of poisson."""
    soft_edges: bool = False
    """A wider feather where the edge of the mask runs through a beard or along a shadow, see masks.soften_edges."""
    sharpen: bool = False
    """Faces that are enlarged, by what that takes from them: before they come here, see sharpen.py."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"infer.blend is {self.method!r}, not one of {', '.join(METHODS)}")


PLAIN = Blending()
"""As the reference."""


class BlendRegion:
    """One source row made ready for blending. Immutable, so any threads may share it. About 12 bytes a pixel.

    Over a `Box` the result is bit for bit the reference's, `round((source * (255 - mask) + face * mask) / 255)`, cut to
    the smallest box in which anything can change: inside the frame, the face box and the mask. Outside the face box
    the reference blends the frame with itself. Over a `Place` the face lies where it is to parts of a pixel.
    """

    def __init__(self, frame: Image, mask: Mask, face: Box | FloatBox, crop: Box, blending: Blending = PLAIN) -> None:
        """`mask` is [S, S] over `crop`. Raises ValueError when it is not."""
        if mask.shape != (crop.height, crop.width):
            raise ValueError(f"a mask of {mask.shape} does not cover {crop}")
        if blending.soft_edges:
            mask = soften_edges(mask, frame, crop)
        self.box = _changed(frame, mask, face if isinstance(face, Box) else face.box(), crop)
        box = self.box
        self._stretch = _Scale(face, box) if isinstance(face, Box) else _Placed(face, box)
        toned = blending.colour_match or blending.method == "poisson"
        self._tone = ColorMatcher(frame, mask, face, crop, harmonic=blending.method == "poisson") if toned else None
        alpha = mask[box.y1 - crop.y1 : box.y2 - crop.y1, box.x1 - crop.x1 : box.x2 - crop.x1]
        # Three equal channels: a broadcast in the loop would cost more than the memory does.
        self._alpha = np.repeat(alpha[:, :, None], 3, 2).astype(np.uint16)
        # The half that does not change between faces, with the 128 that makes the division round.
        self._source = frame[box.y1 : box.y2, box.x1 : box.x2] * (255 - self._alpha) + np.uint16(128)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._alpha.nbytes + self._source.nbytes + (self._tone.nbytes if self._tone else 0)

    def blend(self, face: Image) -> tuple[Box, Image]:
        """[256, 256, 3] face to the changed box of the frame and its new pixels.

        The box is empty when the mask is, or lies outside the frame. Raises ValueError for a face of another size.
        """
        if face.shape != (FACE_SIZE, FACE_SIZE, 3):
            raise ValueError(f"a face is [{FACE_SIZE}, {FACE_SIZE}, 3], not {face.shape}")
        if self.box.empty:
            return self.box, np.empty((self.box.height, self.box.width, 3), np.uint8)
        stretched = self._stretch(self._tone.match(face) if self._tone else face)
        total = stretched.astype(np.uint16)
        total *= self._alpha
        total += self._source
        total += total >> 8  # with the next shift an exact rounding division by 255
        total >>= 8
        return self.box, total.astype(np.uint8)


class _Scale:
    """The reference's way: the whole box by `cv2.resize`, then the part of it."""

    def __init__(self, face: Box, part: Box) -> None:
        self._size = (face.width, face.height)
        self._part = np.s_[part.y1 - face.y1 : part.y2 - face.y1, part.x1 - face.x1 : part.x2 - face.x1]

    def __call__(self, face: Image) -> Image:
        return np.asarray(cv2.resize(face, self._size, interpolation=cv2.INTER_LINEAR)[self._part], np.uint8)


class _Placed:
    """The part alone, by the affine of a place."""

    def __init__(self, face: FloatBox, part: Box) -> None:
        across, down = face.width / FACE_SIZE, face.height / FACE_SIZE
        left, top = face.x1 - part.x1, face.y1 - part.y1
        self._size = (part.width, part.height)
        # Centres of pixels lie at halves of a box's coordinates.
        self._matrix = np.array([[across, 0, left + 0.5 * across - 0.5], [0, down, top + 0.5 * down - 0.5]])

    def __call__(self, face: Image) -> Image:
        found = cv2.warpAffine(face, self._matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, np.uint8)


def _changed(frame: Image, mask: Mask, face: Box, crop: Box) -> Box:
    x, y, width, height = cv2.boundingRect(mask)
    left, top = max(crop.x1 + x, face.x1, 0), max(crop.y1 + y, face.y1, 0)
    right = min(crop.x1 + x + width, face.x2, frame.shape[1])
    bottom = min(crop.y1 + y + height, face.y2, frame.shape[0])
    if right <= left or bottom <= top:
        return Box(0, 0, 0, 0)
    return Box(left, top, right, bottom)
