"""Idle motion of a photo: at rest at both ends, no motion at the border, landmarks that match the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.footage import portrait
from warmtalk.avatar.detect.face_detection import FaceObservation
from warmtalk.avatar.photo.blink import BlinkLayer
from warmtalk.avatar.photo.idle_motion import IdleMotion
from warmtalk.core.types import Image, Points
from warmtalk.models.faces.face_finder import FaceFinder

FRAMES = 100


@pytest.fixture(scope="module")
def mesh() -> Points:
    return FaceFinder().find(portrait())[0].landmarks


def observation(mesh: Points) -> FaceObservation:
    return FaceObservation(1.0, mesh, np.zeros((68, 2), np.float32))


@pytest.fixture(scope="module")
def motion(mesh: Points) -> IdleMotion:
    return IdleMotion(portrait(), observation(mesh), FRAMES, 25.0)


def test_the_face_moves_a_little(motion: IdleMotion, mesh: Points) -> None:
    nose = np.array([motion.mesh(i)[1] - mesh[1] for i in range(FRAMES)])
    assert 1 < np.ptp(nose[:, 0]) < 10 and 0.5 < np.ptp(nose[:, 1]) < 10  # the face is 107 pixels high


def test_motion_is_at_rest_at_both_ends_and_never_fast(motion: IdleMotion) -> None:
    points = np.array([motion.mesh(i)[[1, 10, 152, 234, 454]] for i in range(FRAMES)])
    speed = np.abs(np.diff(points, axis=0)).max((1, 2))
    assert speed[0] < 0.02 and speed[-1] < 0.02
    assert speed.max() < 0.5
    assert np.abs(np.diff(points, 2, axis=0)).max() < 0.1


def test_border_and_shape_do_not_change(motion: IdleMotion) -> None:
    image = portrait()
    for index in (0, 42, 99):
        frame = motion.frame(index)
        assert frame.shape == image.shape and frame.dtype == np.uint8
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            assert np.abs(frame[edge].astype(int) - image[edge]).max() <= 1


def test_the_displacement_is_nearly_uniform_in_the_face(motion: IdleMotion, mesh: Points) -> None:
    for points in (motion.mesh(0), motion.mesh(50)):
        field = points - mesh
        assert np.abs(field - field.mean(0)).max() < 3


@pytest.mark.parametrize("index", [0, 30, 75, 99])
def test_landmarks_match_the_pixels(motion: IdleMotion, index: int) -> None:
    detected = FaceFinder().find(motion.frame(index))[0].landmarks
    assert np.abs((detected - motion.mesh(index)).mean(0)).max() < 0.35


def test_frames_are_deterministic(motion: IdleMotion) -> None:
    assert np.array_equal(motion.frame(17), motion.frame(17))


def test_blinks_once_in_four_seconds(motion: IdleMotion) -> None:
    gap = np.array([np.linalg.norm(motion.mesh(i)[159] - motion.mesh(i)[145]) for i in range(FRAMES)])
    closed = np.flatnonzero(gap < 0.5 * np.median(gap))
    assert 2 <= len(closed) <= 5 and np.ptp(closed) == len(closed) - 1
    assert gap[0] > 0.9 * np.median(gap) and gap[-1] > 0.9 * np.median(gap)


def test_short_stills_do_not_blink(mesh: Points) -> None:
    short = IdleMotion(portrait(), observation(mesh), 25, 25.0)
    gap = [float(np.linalg.norm(short.mesh(i)[159] - short.mesh(i)[145])) for i in range(25)]
    assert min(gap) > 0.8 * max(gap)
    speed = np.abs(np.diff([short.mesh(i)[1] for i in range(25)], axis=0)).max()
    assert speed < 0.5


def eye_contrast(image: Image, mesh: Points) -> float:
    """Returns the contrast inside the eye: white against iris."""
    ring = mesh[[33, 160, 158, 133, 153, 144]]
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(ring).astype(np.int32)], 255)
    return float(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[mask > 0].std())


def test_a_closed_lid_covers_the_eye(mesh: Points) -> None:
    blink = BlinkLayer(portrait(), mesh)
    assert blink.image(0) is not None and np.array_equal(blink.image(0), portrait())
    assert eye_contrast(blink.image(1), mesh) < 0.7 * eye_contrast(portrait(), mesh)


def test_blinking_changes_the_eyes_only(mesh: Points) -> None:
    changed = np.abs(BlinkLayer(portrait(), mesh).image(1).astype(int) - portrait()).max(2) > 2
    rows, columns = np.nonzero(changed)
    assert rows.min() > mesh[10, 1] and rows.max() < mesh[1, 1]
    assert columns.min() > mesh[234, 0] - 5 and columns.max() < mesh[454, 0] + 5


def test_closed_eyes_do_not_blink(mesh: Points) -> None:
    closed = BlinkLayer(portrait(), mesh).mesh(1)
    touching = closed.copy()
    for upper, lower in ((159, 145), (158, 153), (160, 144), (157, 154), (161, 163), (173, 155), (246, 7)):
        touching[upper] = touching[lower]
    for upper, lower in ((386, 374), (385, 380), (387, 373), (384, 381), (388, 390), (398, 382), (466, 249)):
        touching[upper] = touching[lower]
    assert np.array_equal(BlinkLayer(portrait(), touching).image(1), portrait())
