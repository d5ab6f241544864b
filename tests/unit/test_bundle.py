"""What a bundle says about the places of its faces, and bundles that say nothing about them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from warmtalk.core.bundle import FaceTable, read_faces, write_faces
from warmtalk.core.types import FloatBox
from warmtalk.store import AvatarStore


def test_places_are_optional(tmp_path: Path) -> None:
    boxes, landmarks = np.array([[10, 20, 30, 50]], np.int32), np.zeros((1, 468, 2), np.float32)
    exact = FaceTable(boxes, boxes, landmarks, np.ones(1, np.uint8))
    write_faces(tmp_path, exact)
    assert read_faces(tmp_path).float_boxes is None
    write_faces(tmp_path, replace(exact, float_boxes=np.array([[10.25, 20, 30.25, 50]], np.float32)))
    found = read_faces(tmp_path).float_boxes
    assert found is not None and found[0, 0] == 10.25
    with pytest.raises(ValueError, match="fit together"):
        replace(exact, float_boxes=np.zeros((2, 4), np.float32))


def test_a_new_avatar_lies_to_parts_of_a_pixel(avatars: Path) -> None:
    bundle = AvatarStore(avatars).open("eileen")
    places = [bundle.paste_box(row) for row in range(len(bundle))]
    assert all(isinstance(place, FloatBox) and place.box() == bundle.box(i) for i, place in enumerate(places))
    assert any(place.x1 != round(place.x1) for place in places)


def test_other_users_of_the_volume_can_read_an_avatar(avatars: Path) -> None:
    """As far as the umask lets them: the services may run as different users."""
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in AvatarStore(avatars).path("eileen").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".safetensors", ".mp4", ".png"}
    assert {path.name: path.stat().st_mode & 0o444 for path in files} == {path.name: 0o444 & ~umask for path in files}
