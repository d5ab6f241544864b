"""Sharpens faces that will be enlarged, by what enlarging takes from them, and makes them no less steady by it.

A renderer that draws each frame anew trembles most in the finest detail, which an unsharp mask alone would show more
of. So the detail is averaged over time where the face stands still and taken fresh where it moves. This is done in
the face's own square, where a head that moves stands still.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import FACE_SIZE, Image

AMOUNT, FROM, FULL = 0.8, 1.0, 1.5
"""How much is added, and the enlargements at which it begins and is full. Measured on portraits of 270 to 290 pixels:
fine detail of the mouth 0.65 of the source's without, 0.87 to 0.93 with it."""
KEPT = 0.5
"""Part of the detail of the frame before. From 0.36 on, what is left of the tremble is less after sharpening than
before it: (1 + AMOUNT) (1 - KEPT) / sqrt(1 + KEPT) is below 1."""
_SIGMA = 0.65
"""In pixels of the face."""
_TOP = FACE_SIZE * 3 // 8
"""Masks take nothing of a face above it."""
_CELL = 4
"""Pixels across of what is compared to tell motion from tremble."""
_NOISE, _MOTION = 2.0, 4.0
"""Grey levels: a change below the first is tremble; the first and the second together, and most of what was kept is
let go."""
_Array = npt.NDArray[np.float32]


def sharpening_amount(enlarged: float) -> float:
    """For a face whose longer side is shown at so many times FACE_SIZE."""
    return AMOUNT * min(max((enlarged - FROM) / (FULL - FROM), 0.0), 1.0)


class Sharpening:
    """The faces of one utterance, one after the other. Not thread-safe; holds 1.5 MB."""

    def __init__(self) -> None:
        shape = (FACE_SIZE - _TOP, FACE_SIZE, 3)
        self._fine, self._fresh, self._kept = (np.zeros(shape, np.float32) for _ in range(3))
        """Made once: new pages for each frame cost more than the arithmetic."""
        self._coarse: _Array | None = None
        """[40, 64, 3] of the face before; None when there is none."""

    def reset(self) -> None:
        """The next face does not follow the one before."""
        self._coarse = None

    def __call__(self, face: Image, enlarged: float) -> Image:
        """[256, 256, 3] to the same, sharper; the face itself when it will not be enlarged. About 0.5 ms."""
        more = sharpening_amount(enlarged)
        if more == 0:
            self.reset()
            return face
        lower = face[_TOP:]
        soft = cv2.GaussianBlur(lower, (0, 0), _SIGMA)
        fine, fresh = self._fine, self._fresh
        cv2.subtract(lower, soft, dst=fresh, dtype=cv2.CV_32F)
        self._keep(lower)
        cv2.subtract(fine, fresh, dst=fine)
        cv2.multiply(fine, self._kept, dst=fine)
        cv2.add(fine, fresh, dst=fine)
        np.multiply(fine, np.float32(1 + more), out=fresh)
        result = face.copy()
        result[_TOP:] = cv2.add(soft, fresh, dtype=cv2.CV_8U)
        return result

    def _keep(self, lower: Image) -> None:
        """How much of the detail before stays, at each place."""
        height, width = lower.shape[:2]
        coarse = cv2.resize(lower, (width // _CELL, height // _CELL), interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._coarse is None:
            self._kept[:] = 0
        else:
            change = cv2.blur(np.abs(coarse - self._coarse).mean(2), (5, 5))
            kept = KEPT * np.exp(-((np.maximum(change - _NOISE, 0) / _MOTION) ** 2))
            cv2.resize(cv2.merge([kept, kept, kept]), (width, height), dst=self._kept)
        self._coarse = np.asarray(coarse, np.float32)
