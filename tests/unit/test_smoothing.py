"""How the head moved, by the picture; boxes that lie still on it and go with it; the same boxes without filters."""

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


@pytest.mark.parametrize("wanted", [(3.25, -1.5, 0.0, 1.0), (-0.4, 0.7, 2.0, 1.01), (0.0, 0.0, 0.0, 1.0)])
def test_motion_of_a_head_to_parts_of_a_pixel(
    wanted: tuple[float, float, float, float], face: npt.NDArray[np.float32]
) -> None:
    x, y, turn, scale = wanted
    matrix = cv2.getRotationMatrix2D((222, 130), turn, scale)
    matrix[:, 2] += (x, y)
    now = portrait()
    before = cv2.warpAffine(now, matrix, (512, 512), flags=cv2.INTER_CUBIC)
    noisy = [np.clip(one + RANDOM.normal(0, 3, one.shape), 0, 255).astype(np.uint8) for one in (now, before)]
    found = head_motion(noisy[0], noisy[1], face)
    nose = np.append(face[4], 1)
    assert np.abs(found @ nose - matrix @ nose).max() < 0.12
    assert abs(np.sqrt(np.linalg.det(found[:, :2])) - scale) < 0.002


def test_what_cannot_be_followed_is_not_known(face: npt.NDArray[np.float32]) -> None:
    grey = np.full((512, 512, 3), 90, np.uint8)
    assert np.isnan(head_motion(grey, grey, face)).all()
    assert np.isnan(head_motion(portrait(), RANDOM.integers(0, 256, (512, 512, 3), np.uint8), face)).all()
    assert np.isnan(head_motion(portrait(), grey[:300], face)).all()
    assert np.isnan(head_motion(portrait(), portrait(), face + 600)).all()


def boxes(x: Array, width: Array, height: Array | None = None) -> npt.NDArray[np.float32]:
    height = width if height is None else height
    return np.stack([x - width / 2, 100 - height / 2, x + width / 2, 100 + height / 2], 1).astype(np.float32)


def film(places: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Landmarks that fill these boxes."""
    return places[:, None, :2] + SHAPE * (places[:, None, 2:] - places[:, None, :2])


def motions(x: Array, scale: Array | None = None) -> npt.NDArray[np.float32]:
    """Of a head that goes to `x` and grows by `scale`."""
    scale = np.ones_like(x) if scale is None else scale
    result = np.tile(UNKNOWN_MOTION, (len(x), 1, 1))
    for i in range(1, len(x)):
        part = scale[i - 1] / scale[i]
        result[i] = [[part, 0, x[i - 1] - part * x[i]], [0, part, 100 - part * 100]]
    return result


EVERY = np.ones(100, np.bool_)
REST = np.full(100, 200.0)
SIZE = np.full(100, 150.0)
JERKS = 200 + 60 * np.clip((np.arange(100) - 40) / 6, 0, 1) - 60 * np.clip((np.arange(100) - 70) / 6, 0, 1)


def test_boxes_at_rest_tremble_a_tenth() -> None:
    noisy = boxes(REST, SIZE) + RANDOM.normal(0, 0.5, (100, 4)).astype(np.float32)
    calm = smooth_boxes(noisy, film(boxes(REST, SIZE)), EVERY, motions(REST), 25, SmoothingParams())
    assert np.diff(calm, axis=0).std() < 0.1 * np.diff(noisy, axis=0).std()


def test_boxes_go_with_a_head_that_jerks() -> None:
    true = boxes(JERKS, SIZE)
    noisy = true + RANDOM.normal(0, 0.5, true.shape).astype(np.float32)
    calm = smooth_boxes(noisy, film(true), EVERY, motions(JERKS), 25, SmoothingParams())
    assert np.abs(calm - true).max() < 0.5
    points, _ = smooth_landmarks(film(noisy), EVERY, motions(JERKS))
    assert np.abs(points - film(true)).max() < 1.2
    assert (points - film(true)).std() < 0.5 * (film(noisy) - film(true)).std()


def test_a_talking_jaw_does_not_change_the_size_and_coming_nearer_does() -> None:
    jaw = 150 * (1 + 0.03 * np.sin(np.arange(100)))
    locked = smooth_boxes(boxes(REST, SIZE, jaw), film(boxes(REST, SIZE)), EVERY, motions(REST), 25, SmoothingParams())
    heights = locked[:, 3] - locked[:, 1]
    assert np.ptp(heights[5:-5]) < 0.1 * np.ptp(jaw)
    grow = np.linspace(1, 1.4, 100) ** 2
    nearer = boxes(REST, 150 * grow)
    found = smooth_boxes(nearer, film(nearer), EVERY, motions(REST, grow), 25, SmoothingParams())
    assert np.abs(found - nearer).max() < 0.5


def test_a_face_that_really_changes_size_unlocks() -> None:
    wider = np.where(np.arange(100) < 50, 150.0, 190.0)
    found = smooth_boxes(boxes(REST, wider), film(boxes(REST, SIZE)), EVERY, motions(REST), 25, SmoothingParams())
    widths = found[:, 2] - found[:, 0]
    assert np.abs(widths - wider)[[44, 56]].max() < 0.05 * 190  # at once, but for what counts as locked
    assert np.abs(widths - wider)[[5, 95]].max() < 3


def test_nothing_is_smoothed_over_a_cut_or_a_gap() -> None:
    cut = np.where(np.arange(100) < 50, 100.0, 500.0)
    true = boxes(cut, SIZE)
    usable = EVERY.copy()
    usable[20:30] = False
    found = smooth_boxes(true, film(true), usable, np.tile(UNKNOWN_MOTION, (100, 1, 1)), 25, SmoothingParams())
    assert np.abs(found - true)[usable].max() < 0.01
    assert not found[~usable].any()


def test_one_euro_looks_back_only() -> None:
    true = boxes(JERKS, SIZE)
    how = SmoothingParams("one_euro")
    whole = smooth_boxes(true, film(true), EVERY, None, 25, how)
    part = smooth_boxes(true[:60], film(true)[:60], EVERY[:60], None, 25, how)
    assert np.allclose(whole[:60], part, atol=0.5)  # sizes of the edges count in it
    fast = smooth_boxes(true, film(true), EVERY, None, 25, SmoothingParams("one_euro", beta=1.0))
    assert np.abs(fast - true).max() < np.abs(whole - true).max()


@pytest.mark.parametrize("wrong", [{"filter": "kalman"}, {"scale_lock": -1}, {"beta": -1}, {"cutoff_hz": 0}])
def test_impossible_wishes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"prep\."):
        SmoothingParams(**wrong)  # type: ignore[arg-type]
