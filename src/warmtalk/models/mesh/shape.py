"""Geometry of one source face: mouth position, lip curves, and the part of the face that moves with the mouth.

Lengths are in mouth units: origin between the lips, x along the line of the eyes to the right of the image, y down the
face, length 1 = distance between the eye centres. One 2 x 2 matrix covers the roll of the head and the uneven stretch
of the face box, so that the other modules need to handle neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Points
from warmtalk.models.mesh.face_crop import face_pixels
from warmtalk.models.mesh.landmark_measures import (
    CHIN,
    INNER_LOWER,
    INNER_UPPER,
    JAW,
    NOSE_BASE,
    NOSE_TIP,
    OUTER_LOWER,
    OUTER_UPPER,
    Field,
    eye_center,
    mouth_width,
)
from warmtalk.models.mesh.lip_refinement import EDGE_SAMPLES, refine_lip_edges
from warmtalk.models.mesh.mouth_opening import detect_opening

GRID_PX = 4
"""Pixels per point of the coarse fields."""
FIXED_MARGIN = 2
"""Coarse points along the sides and the top that never move; half as many at the bottom, near the chin."""

TABLE_SIZE, TABLE_REACH = 256, 1.4
"""Samples of a curve over x, and the range of x: -TABLE_REACH to TABLE_REACH."""
UPPER_EDGE, LOWER_EDGE, LIP_LINE, OPENING_PROFILE, UPPER_THICKNESS, LOWER_THICKNESS, JAW_LINE, CORNER_FALLOFF = range(8)
"""Rows of the curve table: inner lip edges, lip line, opening profile 0..1, lip thicknesses, jaw, fall-off beside the
mouth corners 0..1."""

MIN_EYE_RATIO = 0.35
"""Minimum eye distance relative to the height from eyes to chin; about 0.56 on a frontal face."""
UPPER_LIP_SHARE = 0.35
"""Share of a visible source gap that the upper lip closes; the lower lip closes the rest."""
MISSED_GAP, EDGE_TRUST = (0.01, 0.03), 0.02
"""Difference in mouth units between the detected opening and the gap of the refined edges. Below the first value the
edges are used, above the second the opening. Both limits grow by EDGE_TRUST where the edges show a gap."""
EDGE_AGREEMENT, AREA_EXCESS = (0.6, 0.8), (1.4, 1.5)
"""Gaps relative to the gap of the mesh. Edges above EDGE_AGREEMENT confirm the mesh; a detected opening above
AREA_EXCESS is then a shadow and is ignored."""
TEETH_MARGIN = 0.012
"""Width along the lip edge that is not used where the source shows teeth, because an inexact edge would keep teeth on
the lip. The margin is three times as wide at the corners, where the dark area beside the teeth would be kept."""


@dataclass(frozen=True, slots=True, eq=False)
class MouthFrame:
    """Coordinate system of the mouth in a 256 x 256 face."""

    origin: Field
    """[2] pixels."""
    axes: Field
    """[2, 2] pixels = axes @ mouth units + origin."""

    def to_mouth(self, pixels: Points) -> Field:
        """Converts [..., 2] face pixels to mouth units."""
        return ((pixels - self.origin) @ np.linalg.inv(self.axes).T).astype(np.float32)

    @property
    def down_px(self) -> float:
        """Pixels per mouth unit down the face."""
        return float(np.linalg.norm(self.axes[:, 1]))


@dataclass(frozen=True, slots=True, eq=False)
class FaceShape:
    """Geometry of one source row. `measure_shape` creates the object; afterwards all fields are read-only."""

    mouth_frame: MouthFrame
    top: int
    """First face row that may change, a multiple of GRID_PX. Rows above never change."""
    x: Field
    """[h, w] mouth coordinates of the coarse points from row `top` down."""
    y: Field
    window: Field
    """[h, w] 0 at the sides of the box, 1 inside."""
    widening: Field
    """[h, w] share 0..1 of a change of the mouth width that a point follows."""
    table: Field
    """[8, TABLE_SIZE] curves over source x."""
    middle_x: float
    """x of the middle of the lips; differs from 0 when the head is turned."""
    nose_y: float
    """y of the base of the nose, where the motion of the upper lip ends."""
    chin_room: float
    """Maximum downward motion of the chin inside the box."""
    source_gap: float
    """Opening of the mouth in the source; 0 where the lips touch."""
    smile: float
    """Likelihood 0..1 that the source shows teeth."""
    blur_px: float
    """Face pixels per source pixel, at least 1. Generated details must not be sharper."""
    rest_stretch: float
    """Rest width of the avatar / width of this row."""


def interpolate_curves(table: Field, x: Field) -> Field:
    """Returns [..., 8] curve values at `x`, linear between samples."""
    position = np.clip((x + TABLE_REACH) * ((TABLE_SIZE - 1) / (2 * TABLE_REACH)), 0, TABLE_SIZE - 1.001)
    index = position.astype(np.int32)
    fraction = (position - index)[..., None].astype(np.float32)
    samples = table.T
    return np.asarray(samples[index] * (1 - fraction) + samples[index + 1] * fraction, np.float32)


def smoothstep(low: float | Field, high: float | Field, value: float | Field) -> Field:
    """Returns 0 at `low`, 1 at `high`, and a cubic in between with slope 0 at both ends."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def measure_shape(face: Image, landmarks: Points, box: Box | FloatBox, rest_width: float) -> FaceShape:
    """Measures one source row.

    `face` is the 256 x 256 source, `landmarks` are frame pixels, `rest_width` is the usual mouth_width of the avatar.
    """
    pixels = face_pixels(landmarks, box)
    frame = _mouth_frame(landmarks, box)
    mouth = frame.to_mouth(pixels)
    tip = int(np.clip(pixels[NOSE_TIP, 1], 0, FACE_SIZE - 32))
    top = -(-tip // GRID_PX) * GRID_PX
    lips = _inner_lip_edges(face, mouth, frame)
    gap = float((lips[2] - lips[1])[EDGE_SAMPLES // 3 : -EDGE_SAMPLES // 3].max())
    x, y = _coarse_points(frame, top)
    middle_x = float(mouth[[13, 14, 0, 17], 0].mean())
    width = float(mouth[291, 0] - mouth[61, 0])
    nose_y, chin_y = float(mouth[NOSE_BASE, 1]), float(mouth[CHIN, 1])
    height = np.where(y < 0, max(-nose_y, 0.1), max(chin_y * 0.8, 0.1))
    distance = np.hypot((x - middle_x) / max(0.7 * width + 0.22, 0.3), y / height)
    table = _curves(mouth, lips, middle_x, gap)
    above_jaw = smoothstep(0.0, 0.25, interpolate_curves(table, x)[..., JAW_LINE] - y)
    bottom = frame.to_mouth(np.array([pixels[CHIN, 0], FACE_SIZE - GRID_PX], np.float32))[1]
    return FaceShape(
        mouth_frame=frame,
        top=top,
        x=x,
        y=y,
        window=_edge_window(*x.shape),
        widening=(1 - smoothstep(0.35, 1.0, distance.astype(np.float32))) * above_jaw,
        table=table,
        middle_x=middle_x,
        nose_y=nose_y,
        chin_room=max(float(bottom) - chin_y, 0.0),
        source_gap=gap,
        smile=_teeth_likelihood(gap),
        blur_px=max(1.0, FACE_SIZE / box.width, FACE_SIZE / box.height),
        rest_stretch=float(np.clip(rest_width / mouth_width(landmarks), 0.85, 1.15)),
    )


def _mouth_frame(landmarks: Points, box: Box | FloatBox) -> MouthFrame:
    """Builds the axes in frame pixels, where the aspect ratio is 1, then applies the stretch of the box."""
    across = eye_center(landmarks, 1) - eye_center(landmarks, 0)
    # In a profile view the eyes nearly coincide. The height of the face then defines the unit length.
    height = float(np.linalg.norm(landmarks[CHIN] - (eye_center(landmarks, 0) + eye_center(landmarks, 1)) / 2))
    across = across * max(1.0, MIN_EYE_RATIO * height / max(float(np.linalg.norm(across)), 1e-3))
    axes = np.stack([across, [-across[1], across[0]]], 1)
    scale = np.array([[FACE_SIZE / box.width], [FACE_SIZE / box.height]])
    middle = (landmarks[INNER_UPPER[5]] + landmarks[INNER_LOWER[5]]) / 2
    return MouthFrame(face_pixels(middle, box), (axes * scale).astype(np.float32))


def _inner_lip_edges(face: Image, mouth: Field, frame: MouthFrame) -> Field:
    """Returns [3, EDGE_SAMPLES]: x, y of the upper edge, y of the lower edge, from corner to corner.

    Combines the refined edges of the mesh with the opening that was detected by colour.
    """
    left, right = ((mouth[inner, 0] + mouth[outer, 0]) / 2 for inner, outer in ((78, 61), (308, 291)))
    x = np.linspace(left, max(right, left + 0.1), EDGE_SAMPLES, dtype=np.float32)
    to_pixels = frame.axes, frame.origin
    rings = OUTER_UPPER, INNER_UPPER, INNER_LOWER, OUTER_LOWER
    outer_up, up, low, outer_low = (_curve(mouth[list(points)], x) for points in rings)
    upper, lower = refine_lip_edges(face, np.stack([x, up], 1), np.stack([x, low], 1), to_pixels)
    top, bottom, certainty = detect_opening(face, x, (outer_up, up, low, outer_low), to_pixels)
    of_mesh, of_edges, of_area = (float((b - a).max()) for a, b in ((up, low), (upper, lower), (top, bottom)))
    confirmed = smoothstep(*EDGE_AGREEMENT, of_edges / max(of_mesh, 1e-3))
    shadow = confirmed * smoothstep(*AREA_EXCESS, of_area / max(of_mesh, 1e-3))
    trust = EDGE_TRUST * min(of_edges / MISSED_GAP[1], 1.0)
    missed = smoothstep(MISSED_GAP[0] + trust, MISSED_GAP[1] + trust, of_area - of_edges)
    share = certainty * missed * (1 - shadow)
    return np.stack([x, upper + share * np.minimum(top - upper, 0), lower + share * np.maximum(bottom - lower, 0)])


def _coarse_points(frame: MouthFrame, top: int) -> tuple[Field, Field]:
    rows, columns = np.mgrid[top:FACE_SIZE:GRID_PX, 0:FACE_SIZE:GRID_PX] + (GRID_PX - 1) / 2
    mouth = frame.to_mouth(np.stack([columns, rows], -1).astype(np.float32))
    return np.ascontiguousarray(mouth[..., 0]), np.ascontiguousarray(mouth[..., 1])


def _edge_window(rows: int, columns: int) -> Field:
    across = np.minimum(np.arange(columns), np.arange(columns)[::-1]).astype(np.float32)
    down = np.minimum(np.arange(rows), np.arange(rows)[::-1] * 2).astype(np.float32)
    sides = smoothstep(FIXED_MARGIN - 1, columns * 0.16, across)
    ends = smoothstep(FIXED_MARGIN - 1, FIXED_MARGIN + 3, down)
    return np.asarray(ends[:, None] * sides, np.float32)


def _curves(mouth: Field, lips: Field, middle_x: float, gap: float) -> Field:
    """Returns the curve table [8, TABLE_SIZE] of one face."""
    x = np.linspace(-TABLE_REACH, TABLE_REACH, TABLE_SIZE, dtype=np.float32)
    half = np.where(x < middle_x, middle_x - lips[0, 0], lips[0, -1] - middle_x)
    parabola = np.clip(1 - ((x - middle_x) / np.maximum(half, 0.05)) ** 2, 0, 1)
    upper, lower = _curve(lips[[0, 1]].T, x), _curve(lips[[0, 2]].T, x)
    line = upper + UPPER_LIP_SHARE * (lower - upper)
    upper, lower = (line + (edge - line) * np.minimum(6 * parabola, 1) for edge in (upper, lower))
    source_profile = (lower - upper) / max(gap, 1e-3)
    smile = _teeth_likelihood(gap)
    margin = TEETH_MARGIN * smile * np.minimum(10 * parabola, 1) * (3.2 - 2.2 * parabola)
    outside = np.maximum(np.abs(x - middle_x) - half, 0)
    return np.stack(
        [
            upper - margin,
            lower + margin,
            line,
            parabola + (source_profile - parabola) * smile,
            np.clip(upper - _curve(mouth[list(OUTER_UPPER)], x), 0, None),
            np.clip(_curve(mouth[list(OUTER_LOWER)], x) - lower, 0, None),
            _curve(mouth[list(JAW)], x),
            1 - smoothstep(0.0, 0.45, outside),
        ]
    ).astype(np.float32)


def _teeth_likelihood(gap: float) -> float:
    return float(smoothstep(0.03, 0.08, gap))


def _curve(points: Field, x: Field) -> Field:
    """Returns y over x through points from left to right, smoothed so that the points leave no corners."""
    y = np.interp(x, np.maximum.accumulate(points[:, 0]), points[:, 1]).astype(np.float32)
    soft = cv2.GaussianBlur(y[None], (0, 0), 0.02 * TABLE_SIZE / (2 * TABLE_REACH), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft[0], np.float32)
