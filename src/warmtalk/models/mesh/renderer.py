"""The embedded renderer: moves the source's own mouth by the face mesh. CPU only, no weights at run time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import NotReady
from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, OPENING, PROTRUSION, WIDTH
from warmtalk.core.types import Features, Image
from warmtalk.models.mesh.mouth import InnerMouth, fill_mouth, prepare_mouth
from warmtalk.models.mesh.mouth_profile import MouthProfile, mouth_profile
from warmtalk.models.mesh.shape import FaceShape, cut_face, eye_distance, face_pixels, prepare_shape, smooth
from warmtalk.models.mesh.source_teeth import SourceTeeth, find_source_teeth
from warmtalk.models.mesh.warp import warp

ROWS_KEPT = 192
"""Rows of an avatar that stay prepared, about 0.3 MB each."""
SMOOTH_ROWS = 4
"""Landmarks are smoothed over this many rows to either side."""
_ROW_BYTES = 320_000
"""Of one prepared row: the face, its fields and its inner mouth."""
TREMBLE = (0.012, 0.03)
"""Eye distances. Up to the first a move is trembling of the mesh, from the second on it is real."""
SPEAKING = 0.12
"""Opening at which a smile is let go."""
NARROWEST = -0.28
"""Width, against a smile, of the roundest mouth; further, the cheeks beside it are drawn out and smear."""
JUMP = 0.25
"""Eye distances. A face that moves further between two rows is another shot, not a motion."""


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    picture: Image
    """[256, 256, 3] the source."""
    face: FaceShape
    mouth: InnerMouth


@dataclass(slots=True, eq=False)
class MeshAvatar:
    """One avatar, prepared. Rows are made on first use and the least recently used dropped. Not thread-safe."""

    bundle: Bundle
    landmarks: npt.NDArray[np.float32]
    """[n, 468, 2] of the bundle, steadied."""
    habit: MouthProfile
    teeth: SourceTeeth
    rows: OrderedDict[int, _Row] = field(default_factory=OrderedDict)

    @property
    def nbytes(self) -> int:
        """Memory held now, about."""
        return self.landmarks.nbytes + self.teeth.nbytes + len(self.rows) * _ROW_BYTES


class MeshRenderer:
    """core.ports.FaceRenderer. Holds no state of an avatar; that belongs to the one thread that renders it."""

    name = "mesh"
    cached_rows = ROWS_KEPT

    def __init__(self, strength: float = 1.0) -> None:
        """`strength` scales what the mouth does: opening, width and rounding. Closed stays closed."""
        self._strength = strength

    def prepare(self, bundle: Bundle) -> MeshAvatar:
        """Reads up to 50 source frames for their teeth. Raises NotReady when the avatar has no usable row."""
        usable = bundle.faces.usable.astype(bool)
        if not usable.any():
            raise NotReady(f"avatar {bundle.info.avatar_id!r} shows no face", "Use a source with a face in it")
        landmarks = steady(bundle.faces.landmarks, usable)
        habit = mouth_profile(landmarks[usable])
        shown = (
            SourceTeeth(None, None) if habit.own_teeth else find_source_teeth(bundle, landmarks, usable, habit.lip_drop)
        )
        return MeshAvatar(bundle, landmarks, habit, shown)

    def render(self, avatar: MeshAvatar, rows: Sequence[int], features: Features) -> list[Image]:
        """One [256, 256, 3] uint8 BGR face per row; `features` is float32 [len(rows), 4], see core.mouth."""
        shapes = as_habit(features, avatar.habit, self._strength)
        return [_draw(_row(avatar, row), shape) for row, shape in zip(rows, shapes, strict=True)]

    def prepare_row(self, avatar: MeshAvatar, row: int) -> None:
        """core.ports.RowRenderer. Also what shows in an open mouth."""
        _draw(_row(avatar, row), MAX_SHAPE)


def as_habit(features: Features, habit: MouthProfile, strength: float) -> Features:
    """[n, 4] features as this mouth would do them, in range, but for the width of a smile that is let go. What is
    closed stays closed."""
    scale = np.array([habit.reach * strength, strength, strength, 1], np.float32)
    shapes: Features = features * scale
    let_go = smooth(0.0, SPEAKING, shapes[:, OPENING]) + np.clip(shapes[:, PROTRUSION], 0, 1)
    shapes = np.clip(shapes, MIN_SHAPE, MAX_SHAPE)
    shapes[:, WIDTH] = np.maximum(shapes[:, WIDTH] - habit.narrows * let_go, NARROWEST)
    return shapes


def steady(landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """[n, 468, 2] with the trembling of the face mesh taken out: a local quadratic fit over time (Savitzky-Golay),
    which keeps slow motion. A point that the fit would move far is really moving fast, as lips do, and stays.
    Unusable rows and jumps to another shot end a stretch."""
    result = landmarks.copy()
    for start, stop in _stretches(landmarks, usable):
        reach = min(SMOOTH_ROWS, (stop - start - 1) // 2)
        if reach < 2:
            continue
        for row in range(start, stop):
            low = min(max(row - reach, start), stop - 2 * reach - 1)
            window = landmarks[low : low + 2 * reach + 1]
            moves = np.tensordot(_fit_weights(2 * reach + 1, row - low), window, 1) - landmarks[row]
            far = np.linalg.norm(moves, axis=1) / eye_distance(landmarks[row])
            result[row] += moves * (1 - smooth(*TREMBLE, far))[:, None]
    return result


@cache
def _fit_weights(count: int, place: int) -> npt.NDArray[np.float64]:
    """[count] weights of the rows of a window in the value of their quadratic fit at `place`."""
    times = np.arange(count) - place
    return np.asarray(np.linalg.pinv(np.stack([times**0, times, times**2], 1))[0])


def _stretches(landmarks: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of usable rows without a jump in between."""
    steps = np.abs(np.diff(landmarks, axis=0)).mean((1, 2)) / eye_distance(landmarks[1:])
    joined = usable[1:] & usable[:-1] & (steps < JUMP)
    breaks = [0, *(np.flatnonzero(~joined) + 1).tolist(), len(usable)]
    return [(a, b) for a, b in pairwise(breaks) if usable[a:b].all()]


def _row(avatar: MeshAvatar, row: int) -> _Row:
    if row not in avatar.rows:
        avatar.rows[row] = _prepare_row(avatar, row)
        while len(avatar.rows) > ROWS_KEPT:
            avatar.rows.popitem(last=False)
    avatar.rows.move_to_end(row)
    return avatar.rows[row]


def _prepare_row(avatar: MeshAvatar, row: int) -> _Row:
    box, landmarks = avatar.bundle.paste_box(row), avatar.landmarks[row]
    picture = cut_face(avatar.bundle.frame(row), box)
    face = prepare_shape(picture, landmarks, box, avatar.habit.rest_width)
    mouth = prepare_mouth(picture, face_pixels(landmarks, box), face, avatar.habit, avatar.teeth)
    return _Row(picture, face, mouth)


def _draw(row: _Row, want: npt.NDArray[np.float32]) -> Image:
    picture = row.picture.copy()
    warped = warp(row.face, want)
    lower = picture[row.face.top :]
    cv2.remap(row.picture, warped.map_x, warped.map_y, cv2.INTER_CUBIC, dst=lower, borderMode=cv2.BORDER_REPLICATE)
    fill_mouth(picture, row.picture, row.face, row.mouth, warped, want)
    return picture
