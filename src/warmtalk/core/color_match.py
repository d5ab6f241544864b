"""Brings a generated face to the colours of its frame, by what both show where the mask goes from one to the other.

Both are compared on a grid of cells along the edge of the mask. Between them the difference is either a plane over the
face ("colour match": a few numbers, which mouth and jaw cannot pull along), or harmonic ("poisson": equal to the
difference on the whole edge and as smooth as can be within, which is what Poisson blending adds to a picture whose
gradients it keeps; Perez, Gangnet and Blake, SIGGRAPH 2003). Both are linear in what is seen on the edge, so that one
small matrix for each source row does it, without memory of other frames.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import sample_box
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Mask

Field = npt.NDArray[np.float32]
_CELLS = 32
"""A divisor of 256: then a face is brought to cells four times faster."""
_EDGE = (0.05, 0.6)
"""Of a full mask: cells with so much of the face are the edge."""
_MOST = 40.0
_APART = 16.0
"""Levels. A difference of more, or so far from the edge's median, is not colour but a jaw or a hand that moved."""
_RIDGE = 0.3
"""How strongly slopes of the plane are held back, against the spread of the edge."""


class ColorMatcher:
    """One source row. Immutable."""

    def __init__(self, frame: Image, mask: Mask, face: Box | FloatBox, crop: Box, *, harmonic: bool) -> None:
        place = FloatBox(*map(float, face.as_tuple()))
        over = FloatBox(place.x1 - crop.x1, place.y1 - crop.y1, place.x2 - crop.x1, place.y2 - crop.y1)
        alpha = _cells(sample_box(mask, over, cv2.INTER_LINEAR)) / np.float32(255)
        edge = (alpha > _EDGE[0]) & (alpha < _EDGE[1])
        self._edge = np.flatnonzero(edge)
        self._seen = _cells(sample_box(frame, place, cv2.INTER_LINEAR)).reshape(-1, 3)[self._edge]
        self._cells: npt.NDArray[np.intp] | None = None
        if harmonic:
            self._cells, self._spread = _harmonic(alpha, edge)
        else:
            self._spread = _plane(edge)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return 2 * self._edge.nbytes + self._seen.nbytes + self._spread.nbytes

    def match(self, face: Image) -> Image:
        """A [256, 256, 3] face in the colours of its frame."""
        if not self._edge.size:
            return face
        apart = self._seen - _cells(face).reshape(-1, 3)[self._edge]
        middle = np.median(apart, axis=0)
        apart = np.clip(np.clip(apart, middle - _APART, middle + _APART), -_MOST, _MOST)
        if self._cells is None:
            field = _TERMS @ (self._spread @ apart)
        else:
            field = np.zeros((_CELLS * _CELLS, 3), np.float32)
            field[self._cells] = self._spread @ apart
        wide = cv2.resize(field.reshape(_CELLS, _CELLS, 3), (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.add(face, wide, dtype=cv2.CV_8U), np.uint8)


def _cells(picture: Image | Mask) -> Field:
    small = cv2.resize(picture, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _terms() -> Field:
    y, x = np.mgrid[:_CELLS, :_CELLS] / (_CELLS - 1) - 0.5
    return np.stack([np.ones_like(x), x, y], -1).reshape(-1, 3).astype(np.float32)


_TERMS = _terms()
"""[cells, 3] what a plane over the face is made of."""


def _plane(edge: npt.NDArray[np.bool_]) -> Field:
    """[3, n] of differences on the edge to the plane through them, its slopes held back."""
    seen = _TERMS[np.flatnonzero(edge)].astype(np.float64)
    held = np.diag([1e-6, _RIDGE, _RIDGE]) * max(len(seen), 1) * _TERMS[:, 1].var()
    return np.asarray(np.linalg.solve(seen.T @ seen + held, seen.T), np.float32)


def _harmonic(alpha: Field, edge: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], Field]:
    """Cells on the edge and within it [k], and [k, n] of differences on the edge to the harmonic field there."""
    known, inside = np.flatnonzero(edge), np.flatnonzero(alpha >= _EDGE[1])
    number = np.full((_CELLS + 2, _CELLS + 2), -1)  # with a border, where nothing is
    number[1:-1, 1:-1].flat[known] = np.arange(known.size)
    number[1:-1, 1:-1].flat[inside] = known.size + np.arange(inside.size)
    rows, columns = np.divmod(inside, _CELLS)
    own = np.arange(inside.size)
    flows = np.zeros((inside.size, known.size + inside.size), np.float32)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        near = number[rows + 1 + down, columns + 1 + right]
        there = near >= 0  # across the border of the face nothing flows
        flows[own[there], near[there]] += 1
    laplace = np.diag(flows.sum(1) + np.float32(1e-6)) - flows[:, known.size :]
    given = _along(known)
    return np.concatenate([known, inside]), np.vstack([given, np.linalg.solve(laplace, flows[:, : known.size] @ given)])


def _along(known: npt.NDArray[np.intp]) -> Field:
    """[n, n] means of neighbours on the edge: texture is not colour."""
    place = np.stack(np.divmod(known, _CELLS), 1).astype(float)
    near = np.exp(-np.square(place[:, None] - place[None]).sum(-1) / 4)
    return np.asarray(near / near.sum(1, keepdims=True), np.float32)
