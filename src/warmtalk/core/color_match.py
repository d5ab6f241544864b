"""Colour matching: adjusts a generated face to the colours of its frame, as measured along the edge of the mask.

Face and frame are compared on a grid of cells along the edge of the mask. The colour difference is extended over the
face in one of two ways. "Colour match" fits a plane: a few numbers, robust against motion of mouth and jaw. "Poisson"
solves for a harmonic field: equal to the difference on the whole edge and as smooth as possible inside, the field added
by Poisson blending to an image with preserved gradients (Perez, Gangnet and Blake, SIGGRAPH 2003). Both are linear in
the measured differences. One small matrix per source row therefore suffices, without memory of other frames.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import sample_box
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Mask

Field = npt.NDArray[np.float32]
"""Values per cell, float32."""
_CELLS = 32
"""Cells per side. A divisor of 256 makes the reduction of a face to cells four times faster."""
_EDGE = (0.05, 0.6)
"""Range of mask values, full mask = 1: cells in the range form the edge."""
_MAX_DIFFERENCE = 40.0
_MAX_DEVIATION = 16.0
"""Grey levels: limits of a difference, and of the deviation from the median of the edge. Larger values come from a
moved jaw or hand, not from colour."""
_RIDGE = 0.3
"""Ridge regularisation of the slopes of the plane, relative to the spread of the edge."""


class ColorMatcher:
    """Colour matching for one source row. Immutable, therefore thread-safe."""

    def __init__(self, frame: Image, mask: Mask, face: Box | FloatBox, crop: Box, *, harmonic: bool) -> None:
        """`mask` covers `crop`. With `harmonic` the difference is extended as a harmonic field, else as a plane."""
        box = FloatBox(*map(float, face.as_tuple()))
        box_in_crop = FloatBox(box.x1 - crop.x1, box.y1 - crop.y1, box.x2 - crop.x1, box.y2 - crop.y1)
        alpha = _to_cells(sample_box(mask, box_in_crop, cv2.INTER_LINEAR)) / np.float32(255)
        edge = (alpha > _EDGE[0]) & (alpha < _EDGE[1])
        self._edge = np.flatnonzero(edge)
        self._frame_colors = _to_cells(sample_box(frame, box, cv2.INTER_LINEAR)).reshape(-1, 3)[self._edge]
        self._cells: npt.NDArray[np.intp] | None = None
        if harmonic:
            self._cells, self._matrix = _harmonic_matrix(alpha, edge)
        else:
            self._matrix = _plane_matrix(edge)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return 2 * self._edge.nbytes + self._frame_colors.nbytes + self._matrix.nbytes

    def match(self, face: Image) -> Image:
        """Returns the [256, 256, 3] face in the colours of the frame."""
        if not self._edge.size:
            return face
        difference = self._frame_colors - _to_cells(face).reshape(-1, 3)[self._edge]
        median = np.median(difference, axis=0)
        difference = np.clip(difference, median - _MAX_DEVIATION, median + _MAX_DEVIATION)
        difference = np.clip(difference, -_MAX_DIFFERENCE, _MAX_DIFFERENCE)
        if self._cells is None:
            field = _PLANE_TERMS @ (self._matrix @ difference)
        else:
            field = np.zeros((_CELLS * _CELLS, 3), np.float32)
            field[self._cells] = self._matrix @ difference
        offset = cv2.resize(field.reshape(_CELLS, _CELLS, 3), (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.add(face, offset, dtype=cv2.CV_8U), np.uint8)


def _to_cells(image: Image | Mask) -> Field:
    return np.asarray(cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.float32)


def _plane_terms() -> Field:
    y, x = np.mgrid[:_CELLS, :_CELLS] / (_CELLS - 1) - 0.5
    return np.stack([np.ones_like(x), x, y], -1).reshape(-1, 3).astype(np.float32)


_PLANE_TERMS = _plane_terms()
"""[cells, 3] basis of a plane over the face: 1, x, y."""


def _plane_matrix(edge: npt.NDArray[np.bool_]) -> Field:
    """Returns [3, n]: maps n differences on the edge to the plane of best fit, with regularised slopes."""
    terms = _PLANE_TERMS[np.flatnonzero(edge)].astype(np.float64)
    ridge = np.diag([1e-6, _RIDGE, _RIDGE]) * max(len(terms), 1) * _PLANE_TERMS[:, 1].var()
    return np.asarray(np.linalg.solve(terms.T @ terms + ridge, terms.T), np.float32)


def _harmonic_matrix(alpha: Field, edge: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], Field]:
    """Returns the k cells on and inside the edge, and [k, n]: maps n differences on the edge to the field there."""
    known, inside = np.flatnonzero(edge), np.flatnonzero(alpha >= _EDGE[1])
    number = np.full((_CELLS + 2, _CELLS + 2), -1)  # with a border of one empty cell
    number[1:-1, 1:-1].flat[known] = np.arange(known.size)
    number[1:-1, 1:-1].flat[inside] = known.size + np.arange(inside.size)
    rows, columns = np.divmod(inside, _CELLS)
    own = np.arange(inside.size)
    flows = np.zeros((inside.size, known.size + inside.size), np.float32)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbor = number[rows + 1 + down, columns + 1 + right]
        exists = neighbor >= 0  # no flow across the border of the face
        flows[own[exists], neighbor[exists]] += 1
    laplace = np.diag(flows.sum(1) + np.float32(1e-6)) - flows[:, known.size :]
    boundary = _edge_smoothing(known)
    interior = np.linalg.solve(laplace, flows[:, : known.size] @ boundary)
    return np.concatenate([known, inside]), np.vstack([boundary, interior])


def _edge_smoothing(known: npt.NDArray[np.intp]) -> Field:
    """Returns [n, n]: averages neighbouring cells of the edge, which removes texture from the colour difference."""
    cells = np.stack(np.divmod(known, _CELLS), 1).astype(float)
    weights = np.exp(-np.square(cells[:, None] - cells[None]).sum(-1) / 4)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
