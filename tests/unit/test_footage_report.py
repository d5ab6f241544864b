"""The footage report: pose, occlusion, shift, loop range, verdicts, grade and advice."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests import footage
from warmtalk.avatar.detect.appearance import (
    MOUTH_POINTS,
    SAMPLE_POINTS,
    colour_distance,
    measure_appearance,
    occlusion,
)
from warmtalk.avatar.detect.head_pose import _MODEL, _POINTS, Pose, estimate_pose
from warmtalk.avatar.detect.person_tracking import Person
from warmtalk.avatar.report.footage_report import SourceDescription, footage_report, summary
from warmtalk.avatar.track.bbox_shift import BboxShift, choose_bbox_shift, choose_extra_margin
from warmtalk.avatar.track.frame_quality import (
    LEFT_OUT,
    MOUTH_COVERED,
    NO_FACE,
    PASSED_THROUGH,
    TURNED_AWAY,
    USED,
    FrameReport,
    rejection_reason,
)
from warmtalk.avatar.track.frame_table import FrameTable
from warmtalk.avatar.track.loop_range import loop_range
from warmtalk.core.bundle_files import FaceTable
from warmtalk.core.types import Box, Image, Points
from warmtalk.models.faces.face_finder import FaceFinder


@pytest.fixture(scope="module")
def portrait() -> Image:
    return footage.portrait()


@pytest.fixture(scope="module")
def mesh(portrait: Image) -> Points:
    return FaceFinder().find(portrait)[0].landmarks


def rotated(yaw: float, pitch: float, roll: float, *, distance: float | None = None) -> Points:
    """Returns the canonical face, rotated, seen by a camera at `distance` face widths (None: infinitely far)."""
    about_y, about_x, about_z = np.radians([yaw, -pitch, -roll])
    matrix = np.asarray(
        cv2.Rodrigues(np.array([0, 0, about_z]))[0]
        @ cv2.Rodrigues(np.array([0, about_y, 0]))[0]
        @ cv2.Rodrigues(np.array([about_x, 0, 0]))[0]
    )
    points = _MODEL @ matrix.T
    perspective = 1.0 if distance is None else 1 - points[:, 2:] / (15 * distance)
    mesh = np.zeros((468, 2), np.float32)
    mesh[_POINTS] = points[:, :2] / perspective * (10, -10) + 300
    return mesh


@pytest.mark.parametrize("pose", [(0, 0, 0), (25, 0, 0), (0, 15, 0), (0, -15, 0), (0, 0, 90), (-40, 10, -150)])
def test_pose_of_a_face_at_known_angles(pose: tuple[float, float, float]) -> None:
    far = estimate_pose(rotated(*pose))
    assert (far.yaw, far.pitch, far.roll) == pytest.approx(pose, abs=0.01)
    near = estimate_pose(rotated(*pose, distance=5))
    assert (near.yaw, near.pitch, near.roll) == pytest.approx(pose, abs=5)


def test_pose_of_a_photograph(portrait: Image, mesh: Points) -> None:
    one = estimate_pose(mesh)
    assert abs(one.yaw) < 15 and abs(one.pitch) < 15 and abs(one.roll) < 15
    mirrored = estimate_pose(FaceFinder().find(portrait[:, ::-1].copy())[0].landmarks)
    assert (mirrored.yaw, mirrored.pitch, mirrored.roll) == pytest.approx((-one.yaw, one.pitch, -one.roll), abs=4)
    clockwise = cv2.getRotationMatrix2D((222, 130), -20, 1)
    tilted = cv2.warpAffine(portrait, clockwise, (512, 512), borderMode=cv2.BORDER_REFLECT)
    assert estimate_pose(FaceFinder().find(np.asarray(tilted, np.uint8))[0].landmarks).roll == pytest.approx(
        one.roll + 20, abs=3
    )


def test_appearance_measures_sharpness_and_exposure(portrait: Image, mesh: Points) -> None:
    sharp = measure_appearance(portrait, mesh)
    soft = measure_appearance(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 3), np.uint8), mesh)
    dark = measure_appearance((portrait // 3).astype(np.uint8), mesh)
    assert soft.sharpness < 0.2 * sharp.sharpness
    assert 0.4 < sharp.exposure < 0.8 and dark.exposure == pytest.approx(sharp.exposure / 3, abs=0.02)
    outside = measure_appearance(portrait, mesh + 600)
    assert (outside.sharpness, outside.exposure) == (0, 0) and outside.colours.shape == (SAMPLE_POINTS, 3)


def colours(portrait: Image, mesh: Points, covered: list[int], *, light: float = 1.0) -> npt.NDArray[np.uint8]:
    """Returns the colours of ten frames; in the frames of `covered` a blue cup hides the mouth."""
    frames = []
    for i in range(10):
        image = np.clip(portrait * (light if i % 2 else 1), 0, 255).astype(np.uint8)
        if i in covered:
            x, y = mesh[13].astype(int).tolist()
            cv2.rectangle(image, (x - 25, y - 18), (x + 25, y + 60), (160, 60, 20), -1)
        frames.append(measure_appearance(image, mesh).colours)
    return np.array(frames)


def test_occlusion_detects_a_cup_and_ignores_light(portrait: Image, mesh: Points) -> None:
    covered = occlusion(colours(portrait, mesh, [3, 4, 8]))
    assert (covered[[3, 4, 8]] > 0.6).all() and np.delete(covered, [3, 4, 8]).max() == 0
    assert occlusion(colours(portrait, mesh, [], light=0.8)).max() < 0.1
    assert occlusion(np.zeros((0, SAMPLE_POINTS, 3), np.uint8)).shape == (0,)
    assert MOUTH_POINTS < SAMPLE_POINTS


def test_colour_distance_ignores_light(portrait: Image, mesh: Points) -> None:
    one = measure_appearance(portrait, mesh).colours.astype(np.float32)
    darker = measure_appearance((portrait * 0.85).astype(np.uint8), mesh).colours.astype(np.float32)
    other = measure_appearance(np.ascontiguousarray(portrait[:, :, ::-1]), mesh).colours.astype(np.float32)
    assert colour_distance(one, darker) < 5 < 12 < colour_distance(one, other)


def head(root: float, tip: float, lids: float, lip: float, chin: float) -> npt.NDArray[np.float32]:
    """Returns [1, 68, 2] points with these heights and the mesh's proportions along the nose."""
    points = np.zeros((1, 68, 2), np.float32)
    points[:, 27:31, 1] = root + (tip - root) * np.array([0, 0.41, 0.77, 1])
    points[:, (40, 41, 46, 47), 1], points[:, 51, 1], points[:, 8, 1] = lids, lip, chin
    return points


def test_automatic_shift_reproduces_the_boundary_of_the_training() -> None:
    shift = choose_bbox_shift(head(root=100, tip=160, lids=112, lip=200, chin=280), None)
    assert shift == BboxShift(used=-6, automatic=True, low=-14, high=22)  # 140 instead of 146.2


def test_automatic_shift_of_a_raised_head_avoids_the_eyelids() -> None:
    assert choose_bbox_shift(head(root=100, tip=130, lids=110, lip=180, chin=240), None).used == 5  # 18 below the lids


def test_automatic_shift_of_a_lowered_head_avoids_the_lip() -> None:
    shift = choose_bbox_shift(head(root=100, tip=170, lids=90, lip=150, chin=220), None)
    assert shift.used == -15 and shift.low == -16  # 11 above the lip


def test_a_requested_shift_is_used_unchanged() -> None:
    assert choose_bbox_shift(head(100, 160, 112, 200, 280), 0) == BboxShift(used=0, automatic=False, low=-14, high=22)
    assert choose_bbox_shift(head(100, 160, 112, 200, 280), -90).used == -90


def test_automatic_margin_grows_with_the_face() -> None:
    assert choose_extra_margin(head(100, 160, 112, 200, 280), 0, None) == 21  # 8 % of 268
    assert choose_extra_margin(head(50, 56, 51, 60, 70), 0, None) == 10
    assert choose_extra_margin(head(100, 160, 112, 200, 280), 0, 3) == 3


def range_of(speeds: list[float], faceless: tuple[int, ...] = ()) -> tuple[int, int]:
    """Returns the loop range of a face 100 pixels wide that moves by `speeds` pixels before each frame."""
    shape = np.random.default_rng(0).uniform(0, 100, (468, 2)).astype(np.float32)
    shape[0], shape[1] = 0, 100
    landmarks = shape + np.cumsum(speeds, dtype=np.float32)[:, None, None]
    usable = np.array([i not in faceless for i in range(len(speeds))])
    return loop_range(landmarks, usable, np.zeros(len(speeds), np.float32), 25.0)


def test_the_loop_turns_at_frames_with_little_motion() -> None:
    assert range_of([3.0] * 6 + [0.0] * 88 + [3.0] * 6) == (7, 92)
    assert range_of([0.3] * 100) == (0, 100)


def test_the_loop_prefers_ends_with_a_face() -> None:
    assert range_of([0.1] * 100, (0, 1, 2)) == (5, 100)
    assert range_of([0.1] * 100, tuple(range(30))) == (0, 100)


def test_the_trim_is_limited() -> None:
    start, stop = range_of([max(10.0 - 0.5 * i, 0.0) for i in range(100)])
    assert (start, stop) == (10, 100)
    assert range_of([9.0] * 20 + [0.0] * 20) == (0, 40)  # too short for a trim


@pytest.mark.parametrize(
    ("box", "pose", "covered", "reason"),
    [
        (Box(100, 100, 300, 350), Pose(30, -30, 40), 0.4, ""),
        (Box(100, 100, 130, 350), Pose(0, 0, 0), 0, "the face is too small"),
        (None, Pose(0, 0, 0), 0, "the face is too small"),
        (Box(-100, 100, 150, 350), Pose(0, 0, 0), 0, "the mouth is outside the frame"),
        (Box(100, 350, 300, 600), Pose(0, 0, 0), 0, "the mouth is outside the frame"),
        (Box(-50, 100, 150, 350), Pose(0, 0, 0), 0, ""),
        (Box(100, 100, 300, 350), Pose(-40, 0, 0), 0, "the face turns away"),
        (Box(100, 100, 300, 350), Pose(0, 40, 0), 0, "the face looks too far up"),
        (Box(100, 100, 300, 350), Pose(0, -40, 0), 0, "the face looks too far down"),
        (Box(100, 100, 300, 350), Pose(0, 0, 170), 0, "the head is tilted too far"),
        (Box(100, 100, 300, 350), Pose(0, 0, 0), 0.6, "something is in front of the mouth"),
    ],
)
def test_verdicts(box: Box | None, pose: Pose, covered: float, reason: str) -> None:
    mouth = np.full((468, 2), 200, np.float32)
    assert rejection_reason(box, mouth, pose, covered, 640, 480) == reason
    if not reason:
        assert rejection_reason(box, mouth + 300, pose, covered, 640, 480) == "the mouth is outside the frame"


def frame(index: int, **changes: object) -> FrameReport:
    one = FrameReport(
        index, index / 25, 1, USED, box=(100, 100, 300, 350), sharpness=90, exposure=0.5, edge=100, sure=0.9
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def table_of(frames: list[FrameReport], persons: int = 1) -> FrameTable:
    n = sum(one.verdict != LEFT_OUT for one in frames)
    faces = FaceTable(
        np.zeros((n, 4), np.int32), np.zeros((n, 4), np.int32), np.zeros((n, 468, 2), np.float32), np.ones(n, np.uint8)
    )
    tracked = [Person(i + 1, np.arange(n), (0, 0, 9, 9)) for i in range(persons)]
    return FrameTable(faces, 0, frames, tracked, 1, BboxShift(used=-5, automatic=True, low=-9, high=12), 20)


def graded(frames: list[FrameReport], persons: int = 1) -> tuple[str, list[str], list[str]]:
    """Returns grade, reasons and advice."""
    report = footage_report(table_of(frames, persons), SourceDescription(Fraction(25), 640, 480, video=True))
    return report["grade"], report["grade_why"], report["advice"]


def test_good_footage_needs_no_advice() -> None:
    assert graded([frame(i) for i in range(100)]) == ("good", [], [])


def test_advice_has_times() -> None:
    frames = [
        frame(i, verdict=PASSED_THROUGH, reason=TURNED_AWAY, yaw=50.0) if 80 <= i < 100 or i in (10, 12) else frame(i)
        for i in range(250)
    ]
    grade, why, advice = graded(frames)
    assert (grade, why) == ("fair", ["9% of the frames show the original image"])
    assert advice == [
        "the face turns away from 0.4 s to 0.5 s and from 3.2 s to 4.0 s: cut there or accept the original image"
    ]
    assert summary(frames) == "250 frames, 228 usable, face 200 px; in 22 frames the face turns away"


def test_frames_outside_the_loop_do_not_lower_the_grade() -> None:
    frames = [frame(i, verdict=LEFT_OUT, reason="") if i < 20 else frame(i) for i in range(100)]
    assert graded(frames) == (
        "good",
        [],
        ["0.8 s at the ends are left out, so that the loop turns in a quiet moment"],
    )
    assert summary(frames) == "80 frames, 80 usable, face 200 px"


def test_poor_footage_has_reasons_and_advice() -> None:
    poor = {"sharpness": 5.0, "exposure": 0.1, "box": (0, 0, 50, 60), "edge": -3}
    grade, why, advice = graded(
        [frame(0, verdict=PASSED_THROUGH, reason=NO_FACE, faces=0), *(frame(i, **poor) for i in (1, 2))], 2
    )
    assert grade == "poor"
    assert why == [
        "only 67% of the frames have a usable face",
        "the face is 50 px wide; from 128 it looks good",
        "the face is out of focus",
        "the face is cut by the edge of the frame",
        "the face is dark",
        "the video lasts 0.1 s: viewers will notice the loop",
    ]
    assert advice == [
        "no face is seen from 0.0 s to 0.0 s: cut there or accept the original image",
        "the face is 50 px wide: film it closer, or use a larger image",
        "the face is soft: focus on the eyes, and use the original file instead of a copy",
        "the face is dark: add light from the front",
        "the face touches the edge of the frame: leave some room around it",
        "2 people are visible, face 1 from the left is used: choose another with --face N",
        "the video is short: 10 to 60 s loop better",
    ]


def test_many_time_ranges_are_counted() -> None:
    frames = [frame(i, verdict=PASSED_THROUGH, reason=MOUTH_COVERED) if i % 25 < 3 else frame(i) for i in range(250)]
    assert graded(frames)[2][0].startswith("something is in front of the mouth from 0.0 s to 0.1 s and from 1.0 s")
    assert "and 7 more times: cut there" in graded(frames)[2][0]


def test_a_video_of_one_frame_should_be_a_photo() -> None:
    assert "send a jpg or png" in graded([frame(0)])[2][-1]


def test_longest_run() -> None:
    frames = [frame(i, verdict=PASSED_THROUGH) if i in (0, 30, 31) else frame(i) for i in range(50)]
    run = footage_report(table_of(frames), SourceDescription(Fraction(25), 640, 480, video=True))["longest_run"]
    assert run == {"first": 1, "last": 29, "from_s": 0.04, "to_s": 1.2}
