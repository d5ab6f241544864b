"""The geometry of one source face: where its mouth is, what it looks like, and which part of the face goes with it.

Lengths are in mouth units: origin between the lips, x along the line of the eyes to the picture's right, y down the
face, length 1 = distance between the eye centres. Rolled heads and the uneven stretch of the face box end up in one
2 x 2 matrix and are then out of the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.faces import sample_box
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Points
from warmtalk.models.mesh.lip_refinement import ACROSS, correct_lips
from warmtalk.models.mesh.mouth_opening import opening_seen

Field = npt.NDArray[np.float32]

GRID = 4
"""Pixels per point of the coarse fields."""
STILL_EDGE = 2
"""Coarse points along the sides and the top that never move; half as many at the bottom, where the chin is near."""

# Point lists of MediaPipe's canonical face mesh (Apache-2.0), from the picture's left to its right.
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
EYES = ((33, 133), (362, 263))
NOSE_TIP, NOSE_BASE, CHIN = 4, 2, 152

TABLE_SIZE, TABLE_REACH = 256, 1.4
"""Curves over x are kept as tables of this many samples over -TABLE_REACH .. TABLE_REACH."""
UPPER, LOWER, SEAM, LENS, THICK_UPPER, THICK_LOWER, JAW_LINE, TAIL = range(8)
"""Columns of the curve table: inner lips, lip line, opening profile 0..1, lip thicknesses, jaw, corner fall-off."""

LEAST_EYES = 0.35
"""Least distance of the eyes against the height from eyes to chin; about 0.56 on a face from the front."""
UPPER_SHARE = 0.35
"""Of a gap the source shows, the part that the upper lip closes; the lower lip does the rest."""
MISSED, TRUSTED = (0.01, 0.03), 0.02
"""Gap in mouth units that the edges of the lips leave out of what is seen between them: up to the first they are the
more exact, from the second on they are somewhere else. Both are larger by TRUSTED where the edges found a gap."""
AGREE, OUTVOTED = (0.6, 0.8), (1.4, 1.5)
"""Shares of the mesh's gap: edges that find the first, against an area of the second, which then is a shadow."""
ROLL_IN = 0.012
"""Width of the lip edge that is not used where the source shows teeth: edges are not exact, teeth would stick to it.
Three times as much at the corners, where the dark beside the teeth would."""


@dataclass(frozen=True, slots=True, eq=False)
class MouthFrame:
    """The mouth's own axes in a 256 x 256 face."""

    origin: Field
    """[2] pixels."""
    axes: Field
    """[2, 2] pixels = axes @ mouth units + origin."""

    def to_mouth(self, pixels: Points) -> Field:
        return ((pixels - self.origin) @ np.linalg.inv(self.axes).T).astype(np.float32)

    @property
    def down_px(self) -> float:
        """Pixels per mouth unit down the face."""
        return float(np.linalg.norm(self.axes[:, 1]))


@dataclass(frozen=True, slots=True, eq=False)
class FaceShape:
    """One source row; made once by `prepare_shape`, then only read."""

    frame: MouthFrame
    top: int
    """First face row that may change, a multiple of GRID; nothing above it does."""
    x: Field
    """[h, w] mouth coordinates of the coarse points from row `top` down."""
    y: Field
    window: Field
    """[h, w] 0 at the sides of the box, 1 inside."""
    spread: Field
    """[h, w] how much the place takes part in widening."""
    table: Field
    """[8, TABLE_SIZE] curves over source x."""
    middle: float
    """x of the lips' middle; off 0 when the head is turned."""
    nose: float
    """y of the base of the nose, where the upper lip's motion ends."""
    chin_room: float
    """How far the chin may go down before it leaves the box."""
    gap: float
    """Opening of the source itself; 0 where its lips touch."""
    smile: float
    """0..1 how surely the source shows teeth."""
    blur_px: float
    """Face pixels per source pixel, at least 1: nothing drawn may be sharper than this."""
    rest_stretch: float
    """Rest width of the avatar / width of this row."""


def face_pixels(landmarks: Points, box: Box | FloatBox) -> Points:
    """Frame pixels to pixels of the 256 x 256 face that is stretched over `box`."""
    scale = np.array([FACE_SIZE / box.width, FACE_SIZE / box.height], np.float32)
    return np.asarray((landmarks - (box.x1, box.y1) + 0.5) * scale - 0.5, np.float32)


def cut_face(frame: Image, box: Box | FloatBox) -> Image:
    """The box as a 256 x 256 face; outside the frame its border goes on."""
    if isinstance(box, FloatBox):
        return _sampled_finely(frame, box)
    height, width = frame.shape[:2]
    inside = box.clipped(width, height)
    part: Image = frame[inside.y1 : inside.y2, inside.x1 : inside.x2]
    if inside != box:
        margins = (inside.y1 - box.y1, box.y2 - inside.y2, inside.x1 - box.x1, box.x2 - inside.x2)
        part = np.asarray(cv2.copyMakeBorder(part, *margins, cv2.BORDER_REPLICATE), np.uint8)
    shrinks = max(box.width, box.height) > FACE_SIZE
    size = (FACE_SIZE, FACE_SIZE)
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8)


def _sampled_finely(frame: Image, place: FloatBox) -> Image:
    """Where it shrinks, the mean of n x n samples for each pixel, so that fine structure does not flicker."""
    times = math.ceil(max(place.width, place.height) / FACE_SIZE)
    if times == 1:
        return sample_box(frame, place, cv2.INTER_CUBIC)
    fine = sample_box(frame, place, cv2.INTER_LINEAR, times * FACE_SIZE)
    return np.asarray(cv2.resize(fine, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def eye_distance(landmarks: Points) -> Field:
    """Distance of the eye centres, never 0; [..., 468, 2] gives [...]."""
    apart = np.linalg.norm(_eye(landmarks, 1) - _eye(landmarks, 0), axis=-1)
    return np.asarray(np.maximum(apart, 1e-3), np.float32)


def lip_gap(landmarks: Points) -> Field:
    """Gap of the inner lips / eye distance; [..., 468, 2] gives [...]."""
    gaps = landmarks[..., INNER_LOWER[4:7], :] - landmarks[..., INNER_UPPER[4:7], :]
    return np.asarray(np.linalg.norm(gaps.mean(-2), axis=-1) / eye_distance(landmarks), np.float32)


def mouth_width(landmarks: Points) -> Field:
    """Distance of the mouth corners / eye distance; [..., 468, 2] gives [...]."""
    corners = landmarks[..., 291, :] - landmarks[..., 61, :]
    return np.asarray(np.linalg.norm(corners, axis=-1) / eye_distance(landmarks), np.float32)


def lip_thickness(landmarks: Points) -> Field:
    """Height of both lips in the middle / eye distance; [..., 468, 2] gives [...]."""
    heights = [np.linalg.norm(landmarks[..., a, :] - landmarks[..., b, :], axis=-1) for a, b in ((0, 13), (14, 17))]
    return np.asarray(sum(heights) / eye_distance(landmarks), np.float32)


def lip_drop(landmarks: Points) -> Field:
    """Way from the base of the nose down to the middle of the lips / eye distance; [..., 468, 2] gives [...]."""
    across = _eye(landmarks, 1) - _eye(landmarks, 0)
    down = np.stack([-across[..., 1], across[..., 0]], -1) / eye_distance(landmarks)[..., None]
    lips = (landmarks[..., INNER_UPPER[5], :] + landmarks[..., INNER_LOWER[5], :]) / 2
    return np.asarray(((lips - landmarks[..., NOSE_BASE, :]) * down).sum(-1) / eye_distance(landmarks), np.float32)


def look_up(table: Field, x: Field) -> Field:
    """[..., 8] curve values at `x`, linear between samples."""
    place = np.clip((x + TABLE_REACH) * ((TABLE_SIZE - 1) / (2 * TABLE_REACH)), 0, TABLE_SIZE - 1.001)
    index = place.astype(np.int32)
    part = (place - index)[..., None].astype(np.float32)
    samples = table.T
    return np.asarray(samples[index] * (1 - part) + samples[index + 1] * part, np.float32)


def smooth(low: float | Field, high: float | Field, value: float | Field) -> Field:
    """Smoothstep: 0 at `low`, 1 at `high`, level at both."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def prepare_shape(face: Image, landmarks: Points, box: Box | FloatBox, rest_width: float) -> FaceShape:
    """`face` is the 256 x 256 source, `landmarks` are frame pixels, `rest_width` is the avatar's usual mouth_width."""
    pixels = face_pixels(landmarks, box)
    frame = _mouth_frame(landmarks, box)
    mouth = frame.to_mouth(pixels)
    tip = int(np.clip(pixels[NOSE_TIP, 1], 0, FACE_SIZE - 32))
    top = -(-tip // GRID) * GRID
    lips = _inner_lips(face, mouth, frame)
    gap = float((lips[2] - lips[1])[ACROSS // 3 : -ACROSS // 3].max())
    x, y = _coarse_points(frame, top)
    middle = float(mouth[[13, 14, 0, 17], 0].mean())
    width = float(mouth[291, 0] - mouth[61, 0])
    nose, chin = float(mouth[NOSE_BASE, 1]), float(mouth[CHIN, 1])
    height = np.where(y < 0, max(-nose, 0.1), max(chin * 0.8, 0.1))
    reach = np.hypot((x - middle) / max(0.7 * width + 0.22, 0.3), y / height)
    table = _curves(mouth, lips, middle, gap)
    inside = smooth(0.0, 0.25, look_up(table, x)[..., JAW_LINE] - y)
    bottom = frame.to_mouth(np.array([pixels[CHIN, 0], FACE_SIZE - GRID], np.float32))[1]
    return FaceShape(
        frame=frame,
        top=top,
        x=x,
        y=y,
        window=_window(*x.shape),
        spread=(1 - smooth(0.35, 1.0, reach.astype(np.float32))) * inside,
        table=table,
        middle=middle,
        nose=nose,
        chin_room=max(float(bottom) - chin, 0.0),
        gap=gap,
        smile=_smile(gap),
        blur_px=max(1.0, FACE_SIZE / box.width, FACE_SIZE / box.height),
        rest_stretch=float(np.clip(rest_width / mouth_width(landmarks), 0.85, 1.15)),
    )


def _mouth_frame(landmarks: Points, box: Box | FloatBox) -> MouthFrame:
    """Built in frame pixels, where right angles are right, then stretched as the box is."""
    across = _eye(landmarks, 1) - _eye(landmarks, 0)
    # From the side the eyes come together and say little: then the height of the face gives the measure.
    height = float(np.linalg.norm(landmarks[CHIN] - (_eye(landmarks, 0) + _eye(landmarks, 1)) / 2))
    across = across * max(1.0, LEAST_EYES * height / max(float(np.linalg.norm(across)), 1e-3))
    axes = np.stack([across, [-across[1], across[0]]], 1)
    scale = np.array([[FACE_SIZE / box.width], [FACE_SIZE / box.height]])
    middle = (landmarks[INNER_UPPER[5]] + landmarks[INNER_LOWER[5]]) / 2
    return MouthFrame(face_pixels(middle, box), (axes * scale).astype(np.float32))


def _eye(landmarks: Points, side: int) -> Field:
    return np.asarray(landmarks[..., EYES[side], :].mean(-2), np.float32)


def _inner_lips(face: Image, mouth: Field, frame: MouthFrame) -> Field:
    """[3, ACROSS] x, y of the upper edge, y of the lower edge, from corner to corner."""
    left, right = ((mouth[inner, 0] + mouth[outer, 0]) / 2 for inner, outer in ((78, 61), (308, 291)))
    x = np.linspace(left, max(right, left + 0.1), ACROSS, dtype=np.float32)
    to_pixels = frame.axes, frame.origin
    rings = OUTER_UPPER, INNER_UPPER, INNER_LOWER, OUTER_LOWER
    outer_up, up, low, outer_low = (_curve(mouth[list(points)], x) for points in rings)
    upper, lower = correct_lips(face, np.stack([x, up], 1), np.stack([x, low], 1), to_pixels)
    top, bottom, certain = opening_seen(face, x, (outer_up, up, low, outer_low), to_pixels)
    meshed, found, seen = (float((b - a).max()) for a, b in ((up, low), (upper, lower), (top, bottom)))
    agreed = smooth(*AGREE, found / max(meshed, 1e-3)) * smooth(*OUTVOTED, seen / max(meshed, 1e-3))
    trusted = TRUSTED * min(found / MISSED[1], 1.0)
    share = certain * smooth(MISSED[0] + trusted, MISSED[1] + trusted, seen - found) * (1 - agreed)
    return np.stack([x, upper + share * np.minimum(top - upper, 0), lower + share * np.maximum(bottom - lower, 0)])


def _coarse_points(frame: MouthFrame, top: int) -> tuple[Field, Field]:
    rows, columns = np.mgrid[top:FACE_SIZE:GRID, 0:FACE_SIZE:GRID] + (GRID - 1) / 2
    mouth = frame.to_mouth(np.stack([columns, rows], -1).astype(np.float32))
    return np.ascontiguousarray(mouth[..., 0]), np.ascontiguousarray(mouth[..., 1])


def _window(rows: int, columns: int) -> Field:
    across = np.minimum(np.arange(columns), np.arange(columns)[::-1]).astype(np.float32)
    down = np.minimum(np.arange(rows), np.arange(rows)[::-1] * 2).astype(np.float32)
    sides = smooth(STILL_EDGE - 1, columns * 0.16, across)
    ends = smooth(STILL_EDGE - 1, STILL_EDGE + 3, down)
    return np.asarray(ends[:, None] * sides, np.float32)


def _curves(mouth: Field, lips: Field, middle: float, gap: float) -> Field:
    """[8, TABLE_SIZE] the curves of one face over x."""
    x = np.linspace(-TABLE_REACH, TABLE_REACH, TABLE_SIZE, dtype=np.float32)
    half = np.where(x < middle, middle - lips[0, 0], lips[0, -1] - middle)
    lens = np.clip(1 - ((x - middle) / np.maximum(half, 0.05)) ** 2, 0, 1)
    upper, lower = _curve(lips[[0, 1]].T, x), _curve(lips[[0, 2]].T, x)
    seam = upper + UPPER_SHARE * (lower - upper)
    upper, lower = (seam + (edge - seam) * np.minimum(6 * lens, 1) for edge in (upper, lower))
    own = (lower - upper) / max(gap, 1e-3)
    smile = _smile(gap)
    roll_in = ROLL_IN * smile * np.minimum(10 * lens, 1) * (3.2 - 2.2 * lens)
    outside = np.maximum(np.abs(x - middle) - half, 0)
    return np.stack(
        [
            upper - roll_in,
            lower + roll_in,
            seam,
            lens + (own - lens) * smile,
            np.clip(upper - _curve(mouth[list(OUTER_UPPER)], x), 0, None),
            np.clip(_curve(mouth[list(OUTER_LOWER)], x) - lower, 0, None),
            _curve(mouth[list(JAW)], x),
            1 - smooth(0.0, 0.45, outside),
        ]
    ).astype(np.float32)


def _smile(gap: float) -> float:
    return float(smooth(0.03, 0.08, gap))


def _curve(points: Field, x: Field) -> Field:
    """y over x through points from left to right, softened so that it has no corners where points are."""
    y = np.interp(x, np.maximum.accumulate(points[:, 0]), points[:, 1]).astype(np.float32)
    soft = cv2.GaussianBlur(y[None], (0, 0), 0.02 * TABLE_SIZE / (2 * TABLE_REACH), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft[0], np.float32)
