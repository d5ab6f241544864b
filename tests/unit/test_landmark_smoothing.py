"""Smoothing of landmarks: gaps, cuts, jitter, and motion without delay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmtalk.avatar.track.smoothing import smooth_landmarks

RANDOM = np.random.default_rng(3)
SHAPE = RANDOM.uniform(0, 1, (468, 2)).astype(np.float32)
SHAPE[0], SHAPE[1] = 0, 1


def face(x: float, y: float = 50, size: float = 40) -> npt.NDArray[np.float32]:
    return (SHAPE * np.float32(size) + np.array([x, y], np.float32)).astype(np.float32)


def moving_face(
    x_by_frame: list[float], missing: tuple[int, ...] = ()
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    present = np.array([i not in missing for i in range(len(x_by_frame))])
    points = np.array([face(x) for x in x_by_frame], np.float32)
    points[~present] = 0
    return points, present


def test_a_short_gap_is_interpolated_and_a_long_gap_is_not() -> None:
    points, present = moving_face([10.0 + i for i in range(40)], (5, 6, 7, 20, 21, 22, 23))
    result, filled = smooth_landmarks(points, present)
    assert filled[5:8].all() and not filled[20:24].any()
    assert abs(result[6, 0, 0] - 16) < 0.05
    assert not result[20:24].any()


def test_no_smoothing_across_a_cut() -> None:
    points, present = moving_face([10.0] * 10 + [100.0] * 10)
    result, _ = smooth_landmarks(points, present)
    assert np.allclose(result, points, atol=1e-3)


def test_jitter_at_rest_is_reduced() -> None:
    points, present = moving_face([10.0] * 60)
    noisy = points + RANDOM.normal(0, 0.06, points.shape).astype(np.float32)
    result, _ = smooth_landmarks(noisy, present)
    assert (result - points).std() < 0.45 * (noisy - points).std()


def test_motion_keeps_its_phase_and_amplitude() -> None:
    points, present = moving_face([50 + 25 * float(np.sin(2 * np.pi * i / 25)) for i in range(75)])
    result, _ = smooth_landmarks(points, present)
    assert np.abs(result - points)[3:-3].max() < 0.25  # the face swings by 50 pixels in half a second


def test_few_frames_are_not_changed() -> None:
    points, present = moving_face([10.0, 11.0])
    assert np.array_equal(smooth_landmarks(points, present)[0], points)
