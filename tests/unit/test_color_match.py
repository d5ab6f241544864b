"""Colour matching and Poisson blending of a face with other colours than its frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.footage import portrait
from warmtalk.core.blend import PLAIN, Blending, BlendRegion
from warmtalk.core.bundle import Bundle
from warmtalk.core.color_match import ColorMatcher
from warmtalk.core.faces import crop_box, crop_face, float_face_box, ibug68
from warmtalk.core.masks import mesh_mask, soften_edges
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.types import FACE_SIZE, Box, FloatBox, Image, Mask
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.renderer import MeshRenderer

MATCH, POISSON = Blending(colour_match=True), Blending("poisson")


@pytest.fixture(scope="module")
def scene() -> tuple[Image, Mask, FloatBox, Box]:
    frame = portrait()
    mesh = FaceFinder().find(frame)[0].landmarks
    box = float_face_box(ibug68(mesh), 512)
    assert box is not None
    crop = crop_box(box.box())
    return frame, mesh_mask(mesh, box, crop), box, crop


def difference(frame: Image, box: Box, pixels: Image) -> float:
    """Returns the mean difference to the source in grey levels."""
    return float(np.abs(pixels.astype(float) - frame[box.y1 : box.y2, box.x1 : box.x2]).mean())


def blended(scene: tuple[Image, Mask, FloatBox, Box], face: Image, blending: Blending) -> float:
    return difference(scene[0], *BlendRegion(*scene, blending).blend(face))


@pytest.mark.parametrize("blending", [MATCH, POISSON])
def test_a_wrong_colour_is_corrected(scene: tuple[Image, Mask, FloatBox, Box], blending: Blending) -> None:
    face = crop_face(scene[0], scene[2])
    tinted = np.clip(face * np.array([0.94, 1.0, 1.05]) + (8, -3, 6), 0, 255).astype(np.uint8)
    assert blended(scene, tinted, blending) < 0.5 * blended(scene, tinted, PLAIN)
    assert blended(scene, face, blending) < blended(scene, face, PLAIN) + 0.5


def test_a_light_gradient_is_matched(scene: tuple[Image, Mask, FloatBox, Box]) -> None:
    face = crop_face(scene[0], scene[2])
    slope = np.linspace(-15, 15, FACE_SIZE)[None, :, None]
    dimmed = np.clip(face + slope, 0, 255).astype(np.uint8)
    assert blended(scene, dimmed, MATCH) < 0.5 * blended(scene, dimmed, PLAIN)


@pytest.mark.parametrize("harmonic", [False, True])
def test_an_opening_mouth_does_not_shift_the_colours(scene: tuple[Image, Mask, FloatBox, Box], harmonic: bool) -> None:
    tone = ColorMatcher(*scene, harmonic=harmonic)
    face = crop_face(scene[0], scene[2])
    wide = face.copy()
    cv2.ellipse(wide, (128, 200), (30, 25), 0, 0, 360, (20, 10, 60), -1)
    change = tone.match(wide).astype(int) - wide - (tone.match(face).astype(int) - face)
    assert np.abs(change[wide == face]).max() <= 1


def test_a_mask_without_an_edge_changes_nothing() -> None:
    frame = portrait()
    face = crop_face(frame, Box(100, 100, 200, 200))
    none = np.zeros((150, 150), np.uint8)
    for harmonic in (False, True):
        tone = ColorMatcher(frame, none, Box(100, 100, 200, 200), Box(75, 75, 225, 225), harmonic=harmonic)
        assert np.array_equal(tone.match(face), face)


def test_avatars_of_the_reference_are_blended_like_the_reference(avatars: Path) -> None:
    bundle = Bundle(avatars / "eileen")
    bundle.faces = replace(bundle.faces, float_boxes=None)
    everything = WarmAvatar(bundle, MeshRenderer(), Blending("poisson", colour_match=True, sharpen=True))
    features = np.tile(np.array([0.1, 0, 0, 0], np.float32), (3, 1))
    exact = WarmAvatar(bundle, MeshRenderer())
    for one, other in zip(everything.render(0, 0, features), exact.render(0, 0, features), strict=True):
        assert np.array_equal(one.pixels, other.pixels)


def test_the_feather_is_wider_at_a_rough_edge(scene: tuple[Image, Mask, FloatBox, Box]) -> None:
    frame, mask, _, crop = scene
    smooth = np.full_like(frame, 120)
    assert np.array_equal(soften_edges(mask, smooth, crop), mask)
    striped = smooth.copy()
    striped[:, ::8] = 20
    striped[:, 1::8] = 20
    striped[:, 2::8] = 20
    soft = soften_edges(mask, striped, crop)
    assert (soft <= mask).all() and (soft < mask).mean() > 0.02
    lips = FaceFinder().find(frame)[0].landmarks[[13, 14, 17]] - (crop.x1, crop.y1)
    assert all(soft[int(y), int(x)] > 235 for x, y in lips)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="not one of feather, poisson"):
        Blending("magic")
