"""Head motion by optical flow; smoothed boxes that are steady at rest and follow the head; filter parameters."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.footage import portrait
from warmtalk.avatar.detect.head_motion import UNKNOWN_MOTION, head_motion
from warmtalk.avatar.track.smoothing import SmoothingParams, smooth_boxes, smooth_landmarks
from warmtalk.models.faces.face_finder import FaceFinder

RANDOM = np.random.default_rng(7)
SHAPE = RANDOM.uniform(0, 1, (468, 2)).astype(np.float32)
SHAPE[0], SHAPE[1] = 0, 1
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def face() -> npt.NDArray[np.float32]:
    return FaceFinder().find(portrait())[0].landmarks


@pytest.mark.parametrize("motion", [(3.25, -1.5, 0.0, 1.0), (-0.4, 0.7, 2.0, 1.01), (0.0, 0.0, 0.0, 1.0)])
def test_head_motion_has_sub_pixel_accuracy(
    motion: tuple[float, float, float, float], face: npt.NDArray[np.float32]
) -> None:
    x, y, angle, scale = motion
    matrix = cv2.getRotationMatrix2D((222, 130), angle, scale)
    matrix[:, 2] += (x, y)
    image = portrait()
    previous = cv2.warpAffine(image, matrix, (512, 512), flags=cv2.INTER_CUBIC)
    noisy = [np.clip(one + RANDOM.normal(0, 3, one.shape), 0, 255).astype(np.uint8) for one in (image, previous)]
    measured = head_motion(noisy[0], noisy[1], face)
    nose = np.append(face[4], 1)
    assert np.abs(measured @ nose - matrix @ nose).max() < 0.12
    assert abs(np.sqrt(np.linalg.det(measured[:, :2])) - scale) < 0.002


def test_motion_is_unknown_where_tracking_fails(face: npt.NDArray[np.float32]) -> None:
    grey = np.full((512, 512, 3), 90, np.uint8)
    assert np.isnan(head_motion(grey, grey, face)).all()
    assert np.isnan(head_motion(portrait(), RANDOM.integers(0, 256, (512, 512, 3), np.uint8), face)).all()
    assert np.isnan(head_motion(portrait(), grey[:300], face)).all()
    assert np.isnan(head_motion(portrait(), portrait(), face + 600)).all()


def square_boxes(x: Array, width: Array, height: Array | None = None) -> npt.NDArray[np.float32]:
    height = width if height is None else height
    return np.stack([x - width / 2, 100 - height / 2, x + width / 2, 100 + height / 2], 1).astype(np.float32)


def landmarks_in(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns landmarks that fill the boxes."""
    return boxes[:, None, :2] + SHAPE * (boxes[:, None, 2:] - boxes[:, None, :2])


def motions(x: Array, scale: Array | None = None) -> npt.NDArray[np.float32]:
    """Returns the motion of a head that moves to `x` and grows by `scale`."""
    scale = np.ones_like(x) if scale is None else scale
    result = np.tile(UNKNOWN_MOTION, (len(x), 1, 1))
    for i in range(1, len(x)):
        ratio = scale[i - 1] / scale[i]
        result[i] = [[ratio, 0, x[i - 1] - ratio * x[i]], [0, ratio, 100 - ratio * 100]]
    return result


ALL_USABLE = np.ones(100, np.bool_)
REST_X = np.full(100, 200.0)
SIZE = np.full(100, 150.0)
JERKY_X = 200 + 60 * np.clip((np.arange(100) - 40) / 6, 0, 1) - 60 * np.clip((np.arange(100) - 70) / 6, 0, 1)


def test_jitter_of_boxes_at_rest_is_reduced_tenfold() -> None:
    noisy = square_boxes(REST_X, SIZE) + RANDOM.normal(0, 0.5, (100, 4)).astype(np.float32)
    smoothed = smooth_boxes(
        noisy, landmarks_in(square_boxes(REST_X, SIZE)), ALL_USABLE, motions(REST_X), 25, SmoothingParams()
    )
    assert np.diff(smoothed, axis=0).std() < 0.1 * np.diff(noisy, axis=0).std()


def test_boxes_follow_a_jerking_head() -> None:
    true = square_boxes(JERKY_X, SIZE)
    noisy = true + RANDOM.normal(0, 0.5, true.shape).astype(np.float32)
    smoothed = smooth_boxes(noisy, landmarks_in(true), ALL_USABLE, motions(JERKY_X), 25, SmoothingParams())
    assert np.abs(smoothed - true).max() < 0.5
    points, _ = smooth_landmarks(landmarks_in(noisy), ALL_USABLE, motions(JERKY_X))
    assert np.abs(points - landmarks_in(true)).max() < 1.2
    assert (points - landmarks_in(true)).std() < 0.5 * (landmarks_in(noisy) - landmarks_in(true)).std()


def test_the_size_ignores_a_talking_jaw_and_follows_an_approaching_head() -> None:
    jaw = 150 * (1 + 0.03 * np.sin(np.arange(100)))
    locked = smooth_boxes(
        square_boxes(REST_X, SIZE, jaw),
        landmarks_in(square_boxes(REST_X, SIZE)),
        ALL_USABLE,
        motions(REST_X),
        25,
        SmoothingParams(),
    )
    heights = locked[:, 3] - locked[:, 1]
    assert np.ptp(heights[5:-5]) < 0.1 * np.ptp(jaw)
    grow = np.linspace(1, 1.4, 100) ** 2
    nearer = square_boxes(REST_X, 150 * grow)
    found = smooth_boxes(nearer, landmarks_in(nearer), ALL_USABLE, motions(REST_X, grow), 25, SmoothingParams())
    assert np.abs(found - nearer).max() < 0.5


def test_a_real_change_of_size_unlocks_the_size() -> None:
    wider = np.where(np.arange(100) < 50, 150.0, 190.0)
    found = smooth_boxes(
        square_boxes(REST_X, wider),
        landmarks_in(square_boxes(REST_X, SIZE)),
        ALL_USABLE,
        motions(REST_X),
        25,
        SmoothingParams(),
    )
    widths = found[:, 2] - found[:, 0]
    assert np.abs(widths - wider)[[44, 56]].max() < 0.05 * 190  # immediately, except for the locked share
    assert np.abs(widths - wider)[[5, 95]].max() < 3


def test_no_smoothing_across_a_cut_or_a_gap() -> None:
    cut = np.where(np.arange(100) < 50, 100.0, 500.0)
    true = square_boxes(cut, SIZE)
    usable = ALL_USABLE.copy()
    usable[20:30] = False
    found = smooth_boxes(true, landmarks_in(true), usable, np.tile(UNKNOWN_MOTION, (100, 1, 1)), 25, SmoothingParams())
    assert np.abs(found - true)[usable].max() < 0.01
    assert not found[~usable].any()


def test_one_euro_is_causal() -> None:
    true = square_boxes(JERKY_X, SIZE)
    params = SmoothingParams("one_euro")
    whole = smooth_boxes(true, landmarks_in(true), ALL_USABLE, None, 25, params)
    part = smooth_boxes(true[:60], landmarks_in(true)[:60], ALL_USABLE[:60], None, 25, params)
    assert np.allclose(whole[:60], part, atol=0.5)  # the median size, used as a unit, differs
    fast = smooth_boxes(true, landmarks_in(true), ALL_USABLE, None, 25, SmoothingParams("one_euro", beta=1.0))
    assert np.abs(fast - true).max() < np.abs(whole - true).max()


@pytest.mark.parametrize("wrong", [{"filter": "kalman"}, {"scale_lock": -1}, {"beta": -1}, {"cutoff_hz": 0}])
def test_invalid_parameters_are_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"prep\."):
        SmoothingParams(**wrong)  # type: ignore[arg-type]
