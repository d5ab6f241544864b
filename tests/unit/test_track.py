"""Which face is the avatar's, where it is when nobody saw it, and how quiet it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.prep import report
from services.prep.track import Sightings, main_face, steady

RANDOM = np.random.default_rng(3)
SHAPE = RANDOM.uniform(0, 1, (468, 2)).astype(np.float32)
SHAPE[0], SHAPE[1] = 0, 1


def face(x: float, y: float = 50, size: float = 40) -> npt.NDArray[np.float32]:
    return (SHAPE * np.float32(size) + np.array([x, y], np.float32)).astype(np.float32)


def sightings(*rows: tuple[int, npt.NDArray[np.float32]]) -> Sightings:
    ordered = sorted(rows, key=lambda row: row[0])
    ones = np.ones(len(rows), np.float32)
    landmarks = np.array([row[1] for row in ordered], np.float32).reshape(-1, 468, 2)
    apart = np.zeros((len(rows), 68, 2), np.float32)
    return Sightings(np.array([row[0] for row in ordered], np.int32), ones, ones, landmarks, apart)


def places(seen: Sightings, frames: int) -> list[int]:
    """Left edge of the chosen face in each frame, -1 where there is none."""
    return [round(float(seen.landmarks[row, 0, 0])) if row >= 0 else -1 for row in main_face(seen, frames)]


def test_nobody() -> None:
    assert places(sightings(), 3) == [-1, -1, -1]


def test_the_larger_of_two_wins_whatever_their_order() -> None:
    seen = sightings(*((i, face(10)) for i in range(5)), *((i, face(200, size=60)) for i in range(5)))
    assert places(seen, 5) == [200] * 5


def test_a_large_passer_by_does_not_win() -> None:
    seen = sightings(*((i, face(10)) for i in range(20)), *((i, face(200, size=80)) for i in range(3, 6)))
    assert places(seen, 20) == [10] * 20


def test_two_faces_that_pass_each_other_are_not_swapped() -> None:
    seen = sightings(
        *((i, face(10 + 6 * i, y=40, size=50)) for i in range(20)), *((i, face(130 - 6 * i)) for i in range(20))
    )
    assert places(seen, 20) == [10 + 6 * i for i in range(20)]


def test_a_face_that_comes_back_to_its_place_is_the_same() -> None:
    seen = sightings(*((i, face(10)) for i in range(10)), *((i, face(20)) for i in range(60, 70)))
    assert places(seen, 70) == [10] * 10 + [-1] * 50 + [20] * 10


def test_another_face_elsewhere_does_not_stand_in() -> None:
    seen = sightings(*((i, face(10)) for i in range(10)), *((i, face(300)) for i in range(60, 65)))
    assert places(seen, 70)[60:65] == [-1] * 5


def film(moves: list[float], missing: tuple[int, ...] = ()) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    present = np.array([i not in missing for i in range(len(moves))])
    points = np.array([face(x) for x in moves], np.float32)
    points[~present] = 0
    return points, present


def test_short_gap_is_bridged_and_long_one_is_not() -> None:
    points, present = film([10.0 + i for i in range(40)], (5, 6, 7, 20, 21, 22, 23))
    result, filled = steady(points, present)
    assert filled[5:8].all() and not filled[20:24].any()
    assert abs(result[6, 0, 0] - 16) < 0.05
    assert not result[20:24].any()


def test_a_cut_is_not_smoothed_over() -> None:
    points, present = film([10.0] * 10 + [100.0] * 10)
    result, _ = steady(points, present)
    assert np.allclose(result, points, atol=1e-3)


def test_trembling_at_rest_is_calmed() -> None:
    points, present = film([10.0] * 60)
    noisy = points + RANDOM.normal(0, 0.06, points.shape).astype(np.float32)
    result, _ = steady(noisy, present)
    assert (result - points).std() < 0.45 * (noisy - points).std()


def test_motion_is_neither_delayed_nor_flattened() -> None:
    points, present = film([50 + 25 * float(np.sin(2 * np.pi * i / 25)) for i in range(75)])
    result, _ = steady(points, present)
    assert np.abs(result - points)[3:-3].max() < 0.25  # of a swing of 50 pixels in half a second


def test_few_frames_stay_as_they_are() -> None:
    points, present = film([10.0, 11.0])
    assert np.array_equal(steady(points, present)[0], points)


def one(frame: int, verdict: str = "ok", reason: str = "", faces: int = 1, width: int = 312) -> report.FrameReport:
    return report.FrameReport(frame, faces, verdict, reason, (0, 0, width, width), sure=0.9)


def test_summary_in_plain_words() -> None:
    assert report.summary([one(i) for i in range(250)]) == "250 frames, 250 usable, face 312 px; fine"
    some = [one(0, width=60), one(1, width=60, faces=2), one(2, "unusable", "no face is seen", 0)]
    assert report.summary(some) == (
        "3 frames, 2 usable, face 60 px; in 1 frames no face is seen; the face is small, film it closer; "
        "more than one face, the largest steady one is used"
    )
