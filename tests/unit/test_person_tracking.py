"""Whose face is whose: by place, by colours, by number, by a point; never swapped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from warmtalk.avatar.detect.appearance import SAMPLE_POINTS
from warmtalk.avatar.detect.person_tracking import (
    FaceChoice,
    FaceObservations,
    cluster_persons,
    rows_by_frame,
    select_person,
)
from warmtalk.core.errors import InvalidInput

RANDOM = np.random.default_rng(3)
SHAPE = RANDOM.uniform(0, 1, (468, 2)).astype(np.float32)
SHAPE[0], SHAPE[1] = 0, 1
ANNA, BERT = (RANDOM.uniform(90, 160, (SAMPLE_POINTS, 3)).astype(np.float32) for _ in range(2))
ANYBODY = FaceChoice()
Face = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def face(x: float, y: float = 50, size: float = 40, who: npt.NDArray[np.float32] = ANNA) -> Face:
    """Points of a face and its colours, which are never twice the same."""
    points = (SHAPE * np.float32(size) + np.array([x, y], np.float32)).astype(np.float32)
    return points, who + RANDOM.normal(0, 1, who.shape).astype(np.float32)


def sightings(*rows: tuple[int, Face]) -> FaceObservations:
    ordered = sorted(rows, key=lambda row: row[0])
    ones = np.ones(len(rows), np.float32)
    return FaceObservations(
        frame=np.array([row[0] for row in ordered], np.int32),
        score=ones,
        sharpness=ones,
        exposure=ones,
        colours=np.array([row[1][1] for row in ordered], np.uint8).reshape(-1, SAMPLE_POINTS, 3),
        landmarks=np.array([row[1][0] for row in ordered], np.float32).reshape(-1, 468, 2),
        detector_offset=np.zeros((len(rows), 68, 2), np.float32),
        motion=np.full((len(rows), 2, 3), np.nan, np.float32),
    )


def places(seen: FaceObservations, frames: int, choice: FaceChoice = ANYBODY) -> list[int]:
    """Left edge of the chosen face in each frame, -1 where there is none."""
    rows = rows_by_frame(select_person(cluster_persons(seen), choice, "film.mp4"), seen, frames)
    return [round(float(seen.landmarks[row, 0, 0])) if row >= 0 else -1 for row in rows]


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
        *((i, face(10 + 6 * i, y=40, size=50)) for i in range(20)),
        *((i, face(130 - 6 * i, who=BERT)) for i in range(20)),
    )
    assert places(seen, 20) == [10 + 6 * i for i in range(20)]


def test_a_face_that_comes_back_to_its_place_is_the_same() -> None:
    seen = sightings(*((i, face(10)) for i in range(10)), *((i, face(20)) for i in range(60, 70)))
    assert places(seen, 70) == [10] * 10 + [-1] * 50 + [20] * 10


def test_another_face_elsewhere_does_not_stand_in() -> None:
    seen = sightings(*((i, face(10)) for i in range(10)), *((i, face(300)) for i in range(60, 65)))
    assert places(seen, 70)[60:65] == [-1] * 5


def crossing(hidden: range) -> FaceObservations:
    """Anna walks right, Bert left, behind her: at the same height and size, not seen for some frames."""
    return sightings(
        *((i, face(10 + 8 * i, who=ANNA)) for i in range(40)),
        *((i, face(322 - 8 * i, who=BERT)) for i in range(40) if i not in hidden),
    )


@pytest.mark.parametrize("hidden", [range(0), range(17, 23), range(15, 24), range(12, 28)])
@pytest.mark.parametrize(("number", "start", "step"), [(1, 10, 8), (2, 322, -8)])
def test_people_who_cross_are_told_apart_by_their_colours(hidden: range, number: int, start: int, step: int) -> None:
    seen = crossing(hidden)
    first = [row for row in range(len(seen)) if seen.frame[row] == 0]
    mine = min(first, key=lambda row: abs(float(seen.landmarks[row, 0, 0]) - start))
    whose = next(one for one in cluster_persons(seen) if mine in one.rows)
    away = [] if number == 1 else list(hidden)
    assert places(seen, 40, FaceChoice(whose.number)) == [-1 if i in away else start + step * i for i in range(40)]


def test_somebody_else_in_the_same_chair_is_not_the_same() -> None:
    seen = sightings(
        *((i, face(10, who=ANNA)) for i in range(30)),
        *((i, face(200, who=ANNA)) for i in range(60)),
        *((i, face(12, who=BERT)) for i in range(31, 60)),
    )
    assert places(seen, 60, FaceChoice(1))[31:] == [-1] * 29


def test_by_number_from_the_left_and_by_a_point() -> None:
    seen = sightings(
        *((i, face(300, size=80)) for i in range(20)),
        *((i, face(10)) for i in range(20)),
        *((i, face(150)) for i in range(20)),
        (5, face(500, size=200)),
    )
    assert [one.box[0] for one in cluster_persons(seen)] == [10, 150, 300]
    assert places(seen, 20) == [300] * 20
    assert [places(seen, 20, FaceChoice(number))[0] for number in (1, 2, 3)] == [10, 150, 300]
    assert places(seen, 20, FaceChoice(1, at=(170, 70))) == [150] * 20


@pytest.mark.parametrize("choice", [FaceChoice(3), FaceChoice(at=(100, 300))])
def test_who_is_not_there_is_said(choice: FaceChoice) -> None:
    seen = sightings(*((i, face(10)) for i in range(5)), *((i, face(200, size=60)) for i in range(5)))
    with pytest.raises(InvalidInput, match=r"in film.mp4; faces from the left: face 1 at 30,70, 2 at 230,80") as caught:
        places(seen, 5, choice)
    assert caught.value.field == ("at" if choice.at else "face")
    with pytest.raises(InvalidInput, match="no face is visible"):
        places(sightings(), 5, choice)
