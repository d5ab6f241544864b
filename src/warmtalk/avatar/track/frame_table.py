"""What was seen in a source, as the rows of its bundle: one a frame, usable or not, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.appearance import occlusion
from warmtalk.avatar.detect.face_detection import box_points
from warmtalk.avatar.detect.head_pose import pose_of
from warmtalk.avatar.detect.person_tracking import FaceChoice, Person, by_frame, cluster_persons, select_person
from warmtalk.avatar.detect.source_scan import SourceScan
from warmtalk.avatar.track.bbox_shift import BboxShift, choose_bbox_shift, choose_margin
from warmtalk.avatar.track.frame_quality import (
    INTERPOLATED,
    LEFT_OUT,
    NO_FACE,
    OTHER_FACE,
    PASSED,
    PASSTHROUGH,
    USED,
    FrameReport,
    edge_distance,
    rejection_reason,
)
from warmtalk.avatar.track.loop_range import loop_range
from warmtalk.avatar.track.smoothing import SmoothingParams, smooth_boxes, smooth_landmarks
from warmtalk.core.bundle_files import FaceTable
from warmtalk.core.faces import crop_box, face_box, float_face_box
from warmtalk.core.types import Box, FloatBox

_NO_SHIFT = BboxShift(used=0, automatic=True, low=0, high=0)


@dataclass(frozen=True, slots=True)
class FrameTableParams:
    """What of BuildParams decides about the rows."""

    fps: Fraction
    bbox_shift: int | None
    extra_margin: int | None
    choice: FaceChoice


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """The avatar's rows, and all that was found out on the way."""

    faces: FaceTable
    """Of the rows: zeros where one is not usable."""
    first: int
    """Frame of the source that is row 0."""
    frames: list[FrameReport]
    """Of all frames of the source."""
    people: list[Person]
    chosen: int
    """Number of the avatar's person; 0 when nobody is seen."""
    shift: BboxShift
    margin: int


def build_frame_table(
    found: SourceScan, wanted: FrameTableParams, name: str, how: SmoothingParams | None
) -> FrameTable:
    """`name` is the source's, for messages. `how` landmarks and boxes of a film are calmed, its short gaps bridged and
    its unquiet ends left out (not by the filter "reference"); None for drawn frames, whose landmarks are exact.
    Raises InvalidInput when the face asked for is not there.
    """
    seen = found.seen
    everybody = cluster_persons(seen)
    person = select_person(everybody, wanted.choice, name)
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
        landmarks, present = smooth_landmarks(landmarks, present, motion)
    points = box_points(landmarks, apart)
    shift, margin = _NO_SHIFT, 0
    if present.any():
        shift = choose_bbox_shift(points[present], wanted.bbox_shift)
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
            place = float_face_box(points[i], found.height, **sizes)
            places[i] = drawn[i] if place is None else place.as_tuple()
        if how:
            places = smooth_boxes(places, landmarks, usable, motion, float(wanted.fps), how)
        drawn = np.array([FloatBox(*place).box().as_tuple() for place in places.tolist()], np.int32).reshape(-1, 4)
    start, stop = 0, found.frames
    if calm:
        start, stop = loop_range(landmarks, usable, found.change, float(wanted.fps))
    reports = [
        one if start <= one.frame < stop else replace(one, verdict=LEFT_OUT, reason=PASSTHROUGH) for one in reports
    ]
    kept = slice(start, stop)
    faces = FaceTable(
        drawn[kept],
        _crop_boxes(drawn[kept]),
        landmarks[kept],
        usable[kept].astype(np.uint8),
        None if places is None else places[kept],
    )
    return FrameTable(faces, start, reports, everybody, person.number if person else 0, shift, margin)


def _judged(
    found: SourceScan,
    chosen: npt.NDArray[np.intp],
    landmarks: npt.NDArray[np.float32],
    boxes: list[Box | None],
    fps: Fraction,
) -> list[FrameReport]:
    """A report of each frame; `landmarks` are zeros where nobody is."""
    seen = found.seen
    counts = np.bincount(seen.frame, minlength=found.frames)
    covered = np.zeros(found.frames, np.float32)
    covered[chosen >= 0] = occlusion(seen.colours[chosen[chosen >= 0]])
    reports: list[FrameReport] = []
    for i, box in enumerate(boxes):
        one = FrameReport(i, round(float(i / fps), 3), int(counts[i]), PASSED, OTHER_FACE if counts[i] else NO_FACE)
        if landmarks[i].any():
            pose, row = pose_of(landmarks[i]), int(chosen[i])
            reason = rejection_reason(box, landmarks[i], pose, float(covered[i]), found.width, found.height)
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
