"""What was seen in a source, as the rows of its bundle: one a frame, usable or not, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from services.prep.footage.choose import Choice, Person, by_frame, people, pick
from services.prep.footage.look import hidden
from services.prep.footage.pose import pose_of
from services.prep.footage.scan import Scan
from services.prep.footage.spot import box_points
from services.prep.footage.verdict import (
    INTERPOLATED,
    LEFT_OUT,
    LOOP,
    NO_FACE,
    OTHER_FACE,
    PASSED,
    USED,
    FrameReport,
    edge_distance,
    judge,
)
from services.prep.track.cycle import quiet_range
from services.prep.track.shift import Shift, choose_margin, choose_shift
from services.prep.track.steady import Steadiness, steady, steady_places
from warmtalk.core.bundle import Faces
from warmtalk.core.faces import crop_box, face_box, face_place
from warmtalk.core.types import Box, Place

_NO_SHIFT = Shift(used=0, automatic=True, low=0, high=0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of BuildParams decides about the rows."""

    fps: Fraction
    bbox_shift: int | None
    extra_margin: int | None
    choice: Choice


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The avatar's rows, and all that was found out on the way."""

    faces: Faces
    """Of the rows: zeros where one is not usable."""
    first: int
    """Frame of the source that is row 0."""
    frames: list[FrameReport]
    """Of all frames of the source."""
    people: list[Person]
    chosen: int
    """Number of the avatar's person; 0 when nobody is seen."""
    shift: Shift
    margin: int


def rows(found: Scan, wanted: Wanted, name: str, how: Steadiness | None) -> Rows:
    """`name` is the source's, for messages. `how` landmarks and boxes of a film are calmed, its short gaps bridged and
    its unquiet ends left out (not by the filter "reference"); None for drawn frames, whose landmarks are exact.
    Raises InvalidInput when the face asked for is not there.
    """
    seen = found.seen
    everybody = people(seen)
    person = pick(everybody, wanted.choice, name)
    chosen = by_frame(person, seen, found.frames)
    present = chosen >= 0
    landmarks = np.zeros((found.frames, 468, 2), np.float32)
    landmarks[present] = seen.landmarks[chosen[present]]
    apart = np.full((found.frames, 68, 2), np.nan, np.float32)
    apart[present] = seen.apart[chosen[present]]
    motion = np.full((found.frames, 2, 3), np.nan, np.float32)
    motion[present] = seen.motion[chosen[present]]
    calm = how is not None and how.filter != "reference"
    if calm:
        landmarks, present = steady(landmarks, present, motion)
    points = box_points(landmarks, apart)
    shift, margin = _NO_SHIFT, 0
    if present.any():
        shift = choose_shift(points[present], wanted.bbox_shift)
        margin = choose_margin(points[present], shift.used, wanted.extra_margin)
    sizes = {"bbox_shift": shift.used, "extra_margin": margin}
    boxes = [face_box(points[i], found.height, **sizes) if present[i] else None for i in range(found.frames)]
    reports = _judged(found, chosen, landmarks, boxes, wanted.fps)
    usable = np.array([one.verdict in (USED, INTERPOLATED) for one in reports], bool)
    landmarks[~usable] = 0
    drawn, places = _drawn(boxes, usable), None
    if calm or not how:
        places = np.zeros((found.frames, 4), np.float32)
        for i in np.flatnonzero(usable).tolist():
            place = face_place(points[i], found.height, **sizes)
            places[i] = drawn[i] if place is None else place.as_tuple()
        if how:
            places = steady_places(places, landmarks, usable, motion, float(wanted.fps), how)
        drawn = np.array([Place(*place).box().as_tuple() for place in places.tolist()], np.int32).reshape(-1, 4)
    start, stop = 0, found.frames
    if calm:
        start, stop = quiet_range(landmarks, usable, found.change, float(wanted.fps))
    reports = [one if start <= one.frame < stop else replace(one, verdict=LEFT_OUT, reason=LOOP) for one in reports]
    kept = slice(start, stop)
    faces = Faces(
        drawn[kept],
        _crop_boxes(drawn[kept]),
        landmarks[kept],
        usable[kept].astype(np.uint8),
        None if places is None else places[kept],
    )
    return Rows(faces, start, reports, everybody, person.number if person else 0, shift, margin)


def _judged(
    found: Scan,
    chosen: npt.NDArray[np.intp],
    landmarks: npt.NDArray[np.float32],
    boxes: list[Box | None],
    fps: Fraction,
) -> list[FrameReport]:
    """A report of each frame; `landmarks` are zeros where nobody is."""
    seen = found.seen
    counts = np.bincount(seen.frame, minlength=found.frames)
    covered = np.zeros(found.frames, np.float32)
    covered[chosen >= 0] = hidden(seen.colours[chosen[chosen >= 0]])
    reports: list[FrameReport] = []
    for i, box in enumerate(boxes):
        one = FrameReport(i, round(float(i / fps), 3), int(counts[i]), PASSED, OTHER_FACE if counts[i] else NO_FACE)
        if landmarks[i].any():
            pose, row = pose_of(landmarks[i]), int(chosen[i])
            reason = judge(box, landmarks[i], pose, float(covered[i]), found.width, found.height)
            one = replace(
                one,
                verdict=PASSED if reason else USED if row >= 0 else INTERPOLATED,
                reason=reason,
                box=box.as_tuple() if box else None,
                edge=edge_distance(box, found.width, found.height) if box else 0,
                yaw=round(pose.yaw, 1),
                pitch=round(pose.pitch, 1),
                roll=round(pose.roll, 1),
                hidden=round(float(covered[i]), 2),
            )
            if row >= 0:
                one = replace(
                    one,
                    sharpness=round(float(seen.sharpness[row]), 1),
                    exposure=round(float(seen.exposure[row]), 2),
                    sure=round(float(seen.score[row]), 3),
                )
        reports.append(one)
    return reports


def _drawn(boxes: list[Box | None], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """[n, 4] face boxes, zeros where nothing is drawn."""
    drawn = np.zeros((len(boxes), 4), np.int32)
    for i in np.flatnonzero(usable):
        if (box := boxes[i]) is not None:
            drawn[i] = box.as_tuple()
    return drawn


def _crop_boxes(boxes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    crops = np.zeros_like(boxes)
    for i in np.flatnonzero(boxes.any(1)):
        crops[i] = crop_box(Box(*boxes[i].tolist())).as_tuple()
    return crops
