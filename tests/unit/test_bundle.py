"""Bundle files: sub-pixel face boxes are optional, the stored names stay, and other users can read an avatar."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from warmtalk.core.bundle_files import FaceTable, read_faces, write_faces
from warmtalk.core.types import FloatBox
from warmtalk.store import AvatarStore


def test_float_boxes_are_optional(tmp_path: Path) -> None:
    boxes, landmarks = np.array([[10, 20, 30, 50]], np.int32), np.zeros((1, 468, 2), np.float32)
    exact = FaceTable(boxes, boxes, landmarks, np.ones(1, np.uint8))
    write_faces(tmp_path, exact)
    assert read_faces(tmp_path).float_boxes is None
    write_faces(tmp_path, replace(exact, float_boxes=np.array([[10.25, 20, 30.25, 50]], np.float32)))
    stored = read_faces(tmp_path).float_boxes
    assert stored is not None and stored[0, 0] == 10.25
    assert set(load_file(tmp_path / "faces.safetensors")) == {"boxes", "crop_boxes", "landmarks", "usable", "places"}
    with pytest.raises(ValueError, match="do not agree"):
        replace(exact, float_boxes=np.zeros((2, 4), np.float32))


def test_a_new_avatar_has_sub_pixel_boxes(avatars: Path) -> None:
    bundle = AvatarStore(avatars).open("eileen")
    boxes = [bundle.paste_box(row) for row in range(len(bundle))]
    assert all(isinstance(box, FloatBox) and box.box() == bundle.box(row) for row, box in enumerate(boxes))
    assert any(box.x1 != round(box.x1) for box in boxes)


def test_other_users_of_the_volume_can_read_an_avatar(avatars: Path) -> None:
    """File modes follow the umask, because the services may run as different users."""
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in AvatarStore(avatars).path("eileen").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".safetensors", ".mp4", ".png"}
    assert {path.name: path.stat().st_mode & 0o444 for path in files} == {path.name: 0o444 & ~umask for path in files}
