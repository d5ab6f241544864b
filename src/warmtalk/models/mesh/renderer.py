"""The embedded renderer: moves the mouth of the source by the face mesh. CPU only, no weights at run time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import NotReady
from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, OPENING, PROTRUSION, WIDTH
from warmtalk.core.types import Features, Image
from warmtalk.models.mesh.face_crop import extract_face, face_pixels
from warmtalk.models.mesh.inner_mouth import InnerMouth, fill_mouth, prepare_mouth
from warmtalk.models.mesh.landmark_smoothing import smooth_landmarks
from warmtalk.models.mesh.mouth_profile import MouthProfile, mouth_profile
from warmtalk.models.mesh.shape import FaceShape, measure_shape, smoothstep
from warmtalk.models.mesh.source_teeth import SourceTeeth, find_source_teeth
from warmtalk.models.mesh.warp import warp

MAX_PREPARED_ROWS = 192
"""Rows of one avatar that stay prepared, about 0.3 MB each."""
_ROW_BYTES = 320_000
"""Memory of one prepared row: face, fields and inner mouth."""
SMILE_RELEASE_OPENING = 0.12
"""Opening at which a smile is fully released."""
MIN_WIDTH = -0.28
"""Minimum width feature of a rounded mouth that releases a smile. Below, the cheeks are stretched and look smeared."""


@dataclass(frozen=True, slots=True, eq=False)
class _PreparedRow:
    image: Image
    """[256, 256, 3] the source."""
    face: FaceShape
    mouth: InnerMouth


@dataclass(slots=True, eq=False)
class MeshAvatar:
    """One prepared avatar. Rows are prepared on first use; the least recently used are dropped. Not thread-safe."""

    bundle: Bundle
    landmarks: npt.NDArray[np.float32]
    """[n, 468, 2] smoothed landmarks of the bundle."""
    profile: MouthProfile
    teeth: SourceTeeth
    rows: OrderedDict[int, _PreparedRow] = field(default_factory=OrderedDict)

    @property
    def nbytes(self) -> int:
        """Approximate memory held now."""
        return self.landmarks.nbytes + self.teeth.nbytes + len(self.rows) * _ROW_BYTES


class MeshRenderer:
    """Implementation of core.ports.FaceRenderer without state of an avatar. A MeshAvatar belongs to one thread."""

    cached_rows = MAX_PREPARED_ROWS

    def __init__(self, strength: float = 1.0) -> None:
        """`strength` scales opening, width and rounding of the mouth. A closed mouth stays closed."""
        self._strength = strength

    def prepare(self, bundle: Bundle) -> MeshAvatar:
        """Reads up to 50 source frames to find teeth. Raises NotReady when the avatar has no usable row."""
        usable = bundle.faces.usable.astype(bool)
        if not usable.any():
            raise NotReady(f"avatar {bundle.info.avatar_id!r} shows no face", "Use a source with a face in it")
        landmarks = smooth_landmarks(bundle.faces.landmarks, usable)
        profile = mouth_profile(landmarks[usable])
        teeth = SourceTeeth(None, None)
        if not profile.own_teeth_weight:
            teeth = find_source_teeth(bundle, landmarks, usable, profile.lip_drop)
        return MeshAvatar(bundle, landmarks, profile, teeth)

    def render(self, avatar: MeshAvatar, rows: Sequence[int], features: Features) -> list[Image]:
        """Returns one [256, 256, 3] uint8 BGR face per row; `features` is float32 [len(rows), 4], see core.mouth."""
        shapes = apply_profile(features, avatar.profile, self._strength)
        return [_render_row(_prepared_row(avatar, row), shape) for row, shape in zip(rows, shapes, strict=True)]

    def prepare_row(self, avatar: MeshAvatar, row: int) -> None:
        """Implements core.ports.RowRenderer. Renders once with an open mouth to fill the caches of the inner mouth."""
        _render_row(_prepared_row(avatar, row), MAX_SHAPE)


def apply_profile(features: Features, profile: MouthProfile, strength: float) -> Features:
    """Returns [n, 4] features scaled to this mouth and clipped to the valid range. A closed mouth stays closed.

    Only the width may fall below the valid range, where a smile is released.
    """
    scale = np.array([profile.opening_scale * strength, strength, strength, 1], np.float32)
    shapes: Features = features * scale
    released = smoothstep(0.0, SMILE_RELEASE_OPENING, shapes[:, OPENING]) + np.clip(shapes[:, PROTRUSION], 0, 1)
    shapes = np.clip(shapes, MIN_SHAPE, MAX_SHAPE)
    shapes[:, WIDTH] = np.maximum(shapes[:, WIDTH] - profile.speech_narrowing * released, MIN_WIDTH)
    return shapes


def _prepared_row(avatar: MeshAvatar, row: int) -> _PreparedRow:
    if row not in avatar.rows:
        avatar.rows[row] = _prepare_row(avatar, row)
        while len(avatar.rows) > MAX_PREPARED_ROWS:
            avatar.rows.popitem(last=False)
    avatar.rows.move_to_end(row)
    return avatar.rows[row]


def _prepare_row(avatar: MeshAvatar, row: int) -> _PreparedRow:
    box, landmarks = avatar.bundle.paste_box(row), avatar.landmarks[row]
    image = extract_face(avatar.bundle.frame(row), box)
    face = measure_shape(image, landmarks, box, avatar.profile.rest_width)
    mouth = prepare_mouth(image, face_pixels(landmarks, box), face, avatar.profile, avatar.teeth)
    return _PreparedRow(image, face, mouth)


def _render_row(row: _PreparedRow, features: npt.NDArray[np.float32]) -> Image:
    image = row.image.copy()
    warped = warp(row.face, features)
    lower = image[row.face.top :]
    cv2.remap(row.image, warped.map_x, warped.map_y, cv2.INTER_CUBIC, dst=lower, borderMode=cv2.BORDER_REPLICATE)
    fill_mouth(image, row.image, row.face, row.mouth, warped, features)
    return image
