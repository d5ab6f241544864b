"""Person tracking: faces are linked by position and colour, and selected by number or by a point."""

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
DEFAULT_CHOICE = FaceChoice()
Face = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def face(x: float, y: float = 50, size: float = 40, colours: npt.NDArray[np.float32] = ANNA) -> Face:
    """Returns the points and the colours of a face; the colours have new noise in each call."""
    points = (SHAPE * np.float32(size) + np.array([x, y], np.float32)).astype(np.float32)
    return points, colours + RANDOM.normal(0, 1, colours.shape).astype(np.float32)


def observations(*rows: tuple[int, Face]) -> FaceObservations:
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


def left_edges(faces: FaceObservations, frames: int, choice: FaceChoice = DEFAULT_CHOICE) -> list[int]:
    """Returns the left edge of the chosen face in each frame, -1 for frames without the face."""
    rows = rows_by_frame(select_person(cluster_persons(faces), choice, "video.mp4"), faces, frames)
    return [round(float(faces.landmarks[row, 0, 0])) if row >= 0 else -1 for row in rows]


def test_a_video_without_faces() -> None:
    assert left_edges(observations(), 3) == [-1, -1, -1]


def test_the_larger_of_two_persons_is_chosen_in_any_order() -> None:
    faces = observations(*((i, face(10)) for i in range(5)), *((i, face(200, size=60)) for i in range(5)))
    assert left_edges(faces, 5) == [200] * 5


def test_a_large_passer_by_is_not_chosen() -> None:
    faces = observations(*((i, face(10)) for i in range(20)), *((i, face(200, size=80)) for i in range(3, 6)))
    assert left_edges(faces, 20) == [10] * 20


def test_two_persons_who_pass_each_other_are_not_swapped() -> None:
    faces = observations(
        *((i, face(10 + 6 * i, y=40, size=50)) for i in range(20)),
        *((i, face(130 - 6 * i, colours=BERT)) for i in range(20)),
    )
    assert left_edges(faces, 20) == [10 + 6 * i for i in range(20)]


def test_a_face_that_returns_to_its_position_is_the_same_person() -> None:
    faces = observations(*((i, face(10)) for i in range(10)), *((i, face(20)) for i in range(60, 70)))
    assert left_edges(faces, 70) == [10] * 10 + [-1] * 50 + [20] * 10


def test_a_face_at_another_position_is_another_person() -> None:
    faces = observations(*((i, face(10)) for i in range(10)), *((i, face(300)) for i in range(60, 65)))
    assert left_edges(faces, 70)[60:65] == [-1] * 5


def crossing(hidden: range) -> FaceObservations:
    """Anna walks to the right, Bert to the left at the same height and size; Bert is hidden in some frames."""
    return observations(
        *((i, face(10 + 8 * i, colours=ANNA)) for i in range(40)),
        *((i, face(322 - 8 * i, colours=BERT)) for i in range(40) if i not in hidden),
    )


@pytest.mark.parametrize("hidden", [range(0), range(17, 23), range(15, 24), range(12, 28)])
@pytest.mark.parametrize(("number", "start", "step"), [(1, 10, 8), (2, 322, -8)])
def test_persons_who_cross_are_distinguished_by_colour(hidden: range, number: int, start: int, step: int) -> None:
    faces = crossing(hidden)
    first = [row for row in range(len(faces)) if faces.frame[row] == 0]
    row = min(first, key=lambda candidate: abs(float(faces.landmarks[candidate, 0, 0]) - start))
    person = next(one for one in cluster_persons(faces) if row in one.rows)
    missing = [] if number == 1 else list(hidden)
    assert left_edges(faces, 40, FaceChoice(person.number)) == [
        -1 if i in missing else start + step * i for i in range(40)
    ]


def test_another_person_at_the_same_position_is_distinguished() -> None:
    faces = observations(
        *((i, face(10, colours=ANNA)) for i in range(30)),
        *((i, face(200, colours=ANNA)) for i in range(60)),
        *((i, face(12, colours=BERT)) for i in range(31, 60)),
    )
    assert left_edges(faces, 60, FaceChoice(1))[31:] == [-1] * 29


def test_persons_are_selected_by_number_and_by_a_point() -> None:
    faces = observations(
        *((i, face(300, size=80)) for i in range(20)),
        *((i, face(10)) for i in range(20)),
        *((i, face(150)) for i in range(20)),
        (5, face(500, size=200)),
    )
    assert [one.box[0] for one in cluster_persons(faces)] == [10, 150, 300]
    assert left_edges(faces, 20) == [300] * 20
    assert [left_edges(faces, 20, FaceChoice(number))[0] for number in (1, 2, 3)] == [10, 150, 300]
    assert left_edges(faces, 20, FaceChoice(1, at=(170, 70))) == [150] * 20


@pytest.mark.parametrize("choice", [FaceChoice(3), FaceChoice(at=(100, 300))])
def test_a_missing_person_is_reported(choice: FaceChoice) -> None:
    faces = observations(*((i, face(10)) for i in range(5)), *((i, face(200, size=60)) for i in range(5)))
    with pytest.raises(
        InvalidInput, match=r"in video.mp4; faces from the left: face 1 at 30,70, 2 at 230,80"
    ) as caught:
        left_edges(faces, 5, choice)
    assert caught.value.field == ("at" if choice.at else "face")
    with pytest.raises(InvalidInput, match="no face is visible"):
        left_edges(observations(), 5, choice)
