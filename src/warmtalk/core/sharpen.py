"""Sharpens upscaled faces to restore lost detail, with temporal averaging, so flicker does not increase.

Renderers work frame by frame, and their output flickers most in the finest detail; an unsharp mask alone would amplify
the flicker. Therefore the detail is averaged over time where the face stands still, and taken from the current frame
where the face moves. The average runs in the square of the face, where a moving head stands still.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import FACE_SIZE, Image

AMOUNT, FROM, FULL = 0.8, 1.0, 1.5
"""Largest amount of sharpening, and the upscaling factors where sharpening starts and reaches the largest amount.
Measured on portraits of 270 to 290 pixels: fine detail of the mouth is 0.65 of the source without sharpening, 0.87 to
0.93 with sharpening."""
KEPT = 0.5
"""Share of the detail of the previous frame in the average. From 0.36 on, flicker is weaker after sharpening than
before: (1 + AMOUNT) (1 - KEPT) / sqrt(1 + KEPT) is below 1."""
_SIGMA = 0.65
"""Sigma of the unsharp mask, in pixels of the face."""
_TOP = FACE_SIZE * 3 // 8
"""First row of the face with an effect: masks exclude everything above."""
_CELL = 4
"""Side of the cells for telling motion from flicker, in pixels."""
_NOISE, _MOTION = 2.0, 4.0
"""Grey levels: a change below _NOISE is flicker; from _NOISE + _MOTION on, most of the previous detail is dropped."""
_Array = npt.NDArray[np.float32]


def sharpening_amount(scale: float) -> float:
    """Returns the amount for a face with a longer side of `scale` times FACE_SIZE in the frame."""
    return AMOUNT * min(max((scale - FROM) / (FULL - FROM), 0.0), 1.0)


class Sharpening:
    """Sharpening of the faces of one utterance, in order of frames. Not thread-safe; holds 1.5 MB."""

    def __init__(self) -> None:
        shape = (FACE_SIZE - _TOP, FACE_SIZE, 3)
        self._fine, self._fresh, self._kept = (np.zeros(shape, np.float32) for _ in range(3))
        """Reused buffers: new memory pages for each frame cost more than the arithmetic."""
        self._coarse: _Array | None = None
        """[40, 64, 3] reduced previous face; None before the first face and after a reset."""

    def reset(self) -> None:
        """Drops the previous face, for a next face without continuity."""
        self._coarse = None

    def __call__(self, face: Image, scale: float) -> Image:
        """Returns the sharpened [256, 256, 3] face; the face itself without upscaling. Takes about 0.5 ms."""
        amount = sharpening_amount(scale)
        if amount == 0:
            self.reset()
            return face
        lower = face[_TOP:]
        soft = cv2.GaussianBlur(lower, (0, 0), _SIGMA)
        fine, fresh = self._fine, self._fresh
        cv2.subtract(lower, soft, dst=fresh, dtype=cv2.CV_32F)
        self._update_kept(lower)
        cv2.subtract(fine, fresh, dst=fine)
        cv2.multiply(fine, self._kept, dst=fine)
        cv2.add(fine, fresh, dst=fine)
        np.multiply(fine, np.float32(1 + amount), out=fresh)
        result = face.copy()
        result[_TOP:] = cv2.add(soft, fresh, dtype=cv2.CV_8U)
        return result

    def _update_kept(self, lower: Image) -> None:
        """Sets the share of the previous detail for each pixel."""
        height, width = lower.shape[:2]
        coarse = cv2.resize(lower, (width // _CELL, height // _CELL), interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._coarse is None:
            self._kept[:] = 0
        else:
            change = cv2.blur(np.abs(coarse - self._coarse).mean(2), (5, 5))
            kept = KEPT * np.exp(-((np.maximum(change - _NOISE, 0) / _MOTION) ** 2))
            cv2.resize(cv2.merge([kept, kept, kept]), (width, height), dst=self._kept)
        self._coarse = np.asarray(coarse, np.float32)
