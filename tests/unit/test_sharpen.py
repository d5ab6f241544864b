"""Sharpening of upscaled faces: more detail and less flicker."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.footage import portrait
from warmtalk.core.blend import Blending
from warmtalk.core.bundle import Bundle
from warmtalk.core.faces import crop_face, float_face_box, ibug68
from warmtalk.core.mouth import MouthShape, to_features
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.sharpen import Sharpening, sharpening_amount
from warmtalk.core.types import FACE_SIZE, Image
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.renderer import MeshRenderer

LARGE = 1.5
LOWER = np.s_[FACE_SIZE // 2 :]


@pytest.fixture(scope="module")
def face() -> Image:
    frame = portrait()
    box = float_face_box(ibug68(FaceFinder().find(frame)[0].landmarks), frame.shape[0])
    assert box is not None
    return np.asarray(cv2.resize(crop_face(frame, box), (FACE_SIZE, FACE_SIZE)), np.uint8)


def with_grain(face: Image, frames: int, grain: float) -> list[Image]:
    """Returns frames of a still face with random grain, like the output of a frame-by-frame renderer."""
    random = np.random.default_rng(4)
    return [np.clip(face + random.normal(0, grain, face.shape), 0, 255).astype(np.uint8) for _ in range(frames)]


def flicker(faces: list[Image]) -> float:
    """Returns the mean change from frame to frame in grey levels."""
    return float(np.mean([np.abs(a[LOWER].astype(int) - b[LOWER]).mean() for a, b in pairwise(faces)]))


def detail(image: Image) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(image[LOWER], cv2.COLOR_BGR2GRAY), cv2.CV_32F).std())


@pytest.mark.parametrize("scale", [1.2, LARGE, 3.0])
@pytest.mark.parametrize("grain", [1.0, 3.0, 6.0])
def test_a_still_face_gets_sharper_and_flickers_less(face: Image, scale: float, grain: float) -> None:
    faces = with_grain(face, 30, grain)
    sharpening = Sharpening()
    sharp = [sharpening(one, scale) for one in faces]
    assert flicker(sharp[5:]) < flicker(faces[5:])
    mean, before = (np.mean(some[5:], axis=0).astype(np.uint8) for some in (sharp, faces))
    assert detail(mean) > (1 + 0.2 * sharpening_amount(scale)) * detail(before)


def test_an_opening_mouth_has_no_ghost(face: Image) -> None:
    """The closed lips of the previous frame leave no trace."""
    sharpening = Sharpening()
    for _ in range(5):
        sharpening(face, LARGE)
    opened = face.copy()
    cv2.ellipse(opened, (128, 200), (30, 22), 0, 0, 360, (40, 30, 90), -1)
    inside = np.s_[190:210, 108:148]
    assert np.abs(sharpening(opened, LARGE)[inside].astype(int) - opened[inside]).max() <= 2


def test_a_reset_drops_the_previous_face(face: Image) -> None:
    sharpening = Sharpening()
    first = sharpening(face, LARGE)
    sharpening(with_grain(face, 1, 6.0)[0], LARGE)
    sharpening.reset()
    assert np.array_equal(sharpening(face, LARGE), first)


def test_faces_without_upscaling_are_unchanged(face: Image) -> None:
    assert Sharpening()(face, 1.0) is face
    assert sharpening_amount(1.0) == 0 < sharpening_amount(1.1) < sharpening_amount(2.0) == sharpening_amount(4.0)


def test_batches_of_an_utterance_equal_the_whole(avatars: Path) -> None:
    avatar = WarmAvatar(Bundle(avatars / "eileen"), MeshRenderer(), Blending(sharpen=True))
    boxes = avatar.bundle.faces.float_boxes
    assert boxes is not None
    boxes += (-100, -100, 100, 100)  # larger than 256 pixels
    features = to_features(*(MouthShape(opening=0.05 * (i % 5)) for i in range(12)))
    whole = avatar.render(0, 0, features)
    sharpening, batches = Sharpening(), []
    for start, stop in ((0, 1), (1, 5), (5, 12)):
        batches += avatar.render(start, 0, features[start:stop], sharpening)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole, batches, strict=True))
    first = avatar.render(5, 0, features[5:6])
    assert not np.array_equal(first[0].pixels, whole[5].pixels)
