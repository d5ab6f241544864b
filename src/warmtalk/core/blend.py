"""Puts a generated face into its frame, only where the mask lets it: the part that is stored, sent and pasted."""

from __future__ import annotations

import cv2
import numpy as np

from warmtalk.core.types import FACE_SIZE, Box, Image, Mask


class BlendRegion:
    """One source row made ready for blending. Immutable, so any threads may share it. About 12 bytes a pixel.

    The result is bit for bit the reference's, `round((source * (255 - mask) + face * mask) / 255)`, cut to the
    smallest box in which anything can change: inside the frame, the face box and the mask. Outside the face box the
    reference blends the frame with itself.
    """

    def __init__(self, frame: Image, mask: Mask, face: Box, crop: Box) -> None:
        """`mask` is [S, S] over `crop`. Raises ValueError when it is not."""
        if mask.shape != (crop.height, crop.width):
            raise ValueError(f"a mask of {mask.shape} does not cover {crop}")
        self.box = _changed(frame, mask, face, crop)
        box = self.box
        self._size = (face.width, face.height)
        self._part = np.s_[box.y1 - face.y1 : box.y2 - face.y1, box.x1 - face.x1 : box.x2 - face.x1]
        alpha = mask[box.y1 - crop.y1 : box.y2 - crop.y1, box.x1 - crop.x1 : box.x2 - crop.x1]
        # Three equal channels: a broadcast in the loop would cost more than the memory does.
        self._alpha = np.repeat(alpha[:, :, None], 3, 2).astype(np.uint16)
        # The half that does not change between faces, with the 128 that makes the division round.
        self._source = frame[box.y1 : box.y2, box.x1 : box.x2] * (255 - self._alpha) + np.uint16(128)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._alpha.nbytes + self._source.nbytes

    def blend(self, face: Image) -> tuple[Box, Image]:
        """[256, 256, 3] face to the changed box of the frame and its new pixels.

        The box is empty when the mask is, or lies outside the frame. Raises ValueError for a face of another size.
        """
        if face.shape != (FACE_SIZE, FACE_SIZE, 3):
            raise ValueError(f"a face is [{FACE_SIZE}, {FACE_SIZE}, 3], not {face.shape}")
        if self.box.empty:
            return self.box, np.empty((self.box.height, self.box.width, 3), np.uint8)
        stretched = cv2.resize(face, self._size, interpolation=cv2.INTER_LINEAR)
        total = stretched[self._part].astype(np.uint16)
        total *= self._alpha
        total += self._source
        total += total >> 8  # with the next shift an exact rounding division by 255
        total >>= 8
        return self.box, total.astype(np.uint8)


def _changed(frame: Image, mask: Mask, face: Box, crop: Box) -> Box:
    x, y, width, height = cv2.boundingRect(mask)
    left, top = max(crop.x1 + x, face.x1, 0), max(crop.y1 + y, face.y1, 0)
    right = min(crop.x1 + x + width, face.x2, frame.shape[1])
    bottom = min(crop.y1 + y + height, face.y2, frame.shape[0])
    if right <= left or bottom <= top:
        return Box(0, 0, 0, 0)
    return Box(left, top, right, bottom)
