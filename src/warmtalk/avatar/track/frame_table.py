"""Per-frame table of a bundle: one row for each frame of the loop, usable or not, each with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.appearance import occlusion
from warmtalk.avatar.detect.face_detection import box_points
from warmtalk.avatar.detect.head_pose import estimate_pose
from warmtalk.avatar.detect.person_tracking import FaceChoice, Person, cluster_persons, rows_by_frame, select_person
from warmtalk.avatar.detect.source_scan import SourceScan
from warmtalk.avatar.track.bbox_shift import BboxShift, choose_bbox_shift, choose_extra_margin
from warmtalk.avatar.track.frame_quality import (
    INTERPOLATED,
    LEFT_OUT,
    NO_FACE,
    OTHER_FACE,
    OUTSIDE_LOOP,
    PASSED_THROUGH,
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
    """The build parameters that determine the rows."""

    fps: Fraction
    bbox_shift: int | None
    extra_margin: int | None
    choice: FaceChoice


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """The avatar's rows and the measurements behind the rows."""

    faces: FaceTable
    """Rows of the bundle: zeros for a row that is not usable."""
    first_frame: int
    """Source frame of row 0."""
    frames: list[FrameReport]
    """Reports of all frames of the source."""
    persons: list[Person]
    chosen_person: int
    """Number of the avatar's person; 0 when nobody is visible."""
    bbox_shift: BboxShift
    extra_margin: int


@dataclass(frozen=True, slots=True, eq=False)
class _PersonTrack:
    """The chosen person in every frame of the source; n is the number of frames."""

    rows: npt.NDArray[np.intp]
    """[n] index into the scan's FaceObservations, -1 without a face."""
    present: npt.NDArray[np.bool_]
    """[n]; after smoothing, also frames whose landmarks were interpolated."""
    landmarks: npt.NDArray[np.float32]
    """[n, 468, 2] frame pixels, zeros without a face."""
    detector_offset: npt.NDArray[np.float32]
    """[n, 68, 2], NaN without a face."""
    motion: npt.NDArray[np.float32]
    """[n, 2, 3], NaN without a face."""


def build_frame_table(
    scan: SourceScan, params: FrameTableParams, source_name: str, smoothing: SmoothingParams | None
) -> FrameTable:
    """Returns the table for the chosen person; `source_name` is used in messages.

    `smoothing`: temporal smoothing of landmarks and boxes. Gaps of up to 3 frames are interpolated and the loop range
    is trimmed to ends with little motion; the filter "reference" does neither. None for synthetic frames, whose
    landmarks are exact.
    Raises InvalidInput when the requested face does not exist.
    """
    persons = cluster_persons(scan.faces)
    person = select_person(persons, params.choice, source_name)
    track = _person_track(scan, rows_by_frame(person, scan.faces, scan.frames))
    smoothed = smoothing is not None and smoothing.filter != "reference"
    if smoothed:
        landmarks, present = smooth_landmarks(track.landmarks, track.present, track.motion)
        track = replace(track, landmarks=landmarks, present=present)
    points = box_points(track.landmarks, track.detector_offset)
    shift, margin = _NO_SHIFT, 0
    if track.present.any():
        shift = choose_bbox_shift(points[track.present], params.bbox_shift)
        margin = choose_extra_margin(points[track.present], shift.used, params.extra_margin)
    sizes = {"bbox_shift": shift.used, "extra_margin": margin}
    boxes = [face_box(points[i], scan.height, **sizes) if track.present[i] else None for i in range(scan.frames)]
    reports = _reports(scan, track, boxes, params.fps)
    usable = np.array([one.verdict in (USED, INTERPOLATED) for one in reports], bool)
    track.landmarks[~usable] = 0
    whole_boxes, float_boxes = _box_array(boxes, usable), None
    if smoothed or smoothing is None:
        float_boxes = _float_boxes(points, whole_boxes, usable, scan.height, sizes)
        if smoothing is not None:
            float_boxes = smooth_boxes(float_boxes, track.landmarks, usable, track.motion, float(params.fps), smoothing)
        rounded = [FloatBox(*box).box().as_tuple() for box in float_boxes.tolist()]
        whole_boxes = np.array(rounded, np.int32).reshape(-1, 4)
    start, stop = 0, scan.frames
    if smoothed:
        start, stop = loop_range(track.landmarks, usable, scan.frame_change, float(params.fps))
    reports = [
        one if start <= one.frame < stop else replace(one, verdict=LEFT_OUT, reason=OUTSIDE_LOOP) for one in reports
    ]
    loop = slice(start, stop)
    faces = FaceTable(
        whole_boxes[loop],
        _crop_boxes(whole_boxes[loop]),
        track.landmarks[loop],
        usable[loop].astype(np.uint8),
        None if float_boxes is None else float_boxes[loop],
    )
    return FrameTable(faces, start, reports, persons, person.number if person else 0, shift, margin)


def _person_track(scan: SourceScan, rows: npt.NDArray[np.intp]) -> _PersonTrack:
    present = rows >= 0
    landmarks = np.zeros((scan.frames, 468, 2), np.float32)
    landmarks[present] = scan.faces.landmarks[rows[present]]
    detector_offset = np.full((scan.frames, 68, 2), np.nan, np.float32)
    detector_offset[present] = scan.faces.detector_offset[rows[present]]
    motion = np.full((scan.frames, 2, 3), np.nan, np.float32)
    motion[present] = scan.faces.motion[rows[present]]
    return _PersonTrack(rows, present, landmarks, detector_offset, motion)


def _reports(scan: SourceScan, track: _PersonTrack, boxes: list[Box | None], fps: Fraction) -> list[FrameReport]:
    """Returns a report of each frame."""
    faces = scan.faces
    counts = np.bincount(faces.frame, minlength=scan.frames)
    covered = np.zeros(scan.frames, np.float32)
    covered[track.rows >= 0] = occlusion(faces.colours[track.rows[track.rows >= 0]])
    reports: list[FrameReport] = []
    for i, box in enumerate(boxes):
        reason = OTHER_FACE if counts[i] else NO_FACE
        report = FrameReport(i, round(float(i / fps), 3), int(counts[i]), PASSED_THROUGH, reason)
        if track.landmarks[i].any():
            pose, row = estimate_pose(track.landmarks[i]), int(track.rows[i])
            reason = rejection_reason(box, track.landmarks[i], pose, float(covered[i]), scan.width, scan.height)
            report = replace(
                report,
                verdict=PASSED_THROUGH if reason else USED if row >= 0 else INTERPOLATED,
                reason=reason,
                box=box.as_tuple() if box else None,
                edge=edge_distance(box, scan.width, scan.height) if box else 0,
                yaw=round(pose.yaw, 1),
                pitch=round(pose.pitch, 1),
                roll=round(pose.roll, 1),
                hidden=round(float(covered[i]), 2),
            )
            if row >= 0:
                report = replace(
                    report,
                    sharpness=round(float(faces.sharpness[row]), 1),
                    exposure=round(float(faces.exposure[row]), 2),
                    sure=round(float(faces.score[row]), 3),
                )
        reports.append(report)
    return reports


def _box_array(boxes: list[Box | None], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Returns [n, 4] face boxes, zeros for frames that are not usable."""
    result = np.zeros((len(boxes), 4), np.int32)
    for i in np.flatnonzero(usable):
        if (box := boxes[i]) is not None:
            result[i] = box.as_tuple()
    return result


def _float_boxes(
    points: npt.NDArray[np.float32],
    whole_boxes: npt.NDArray[np.int32],
    usable: npt.NDArray[np.bool_],
    height: int,
    sizes: dict[str, int],
) -> npt.NDArray[np.float32]:
    """Returns [n, 4] sub-pixel face boxes, zeros for frames that are not usable."""
    result = np.zeros((len(points), 4), np.float32)
    for i in np.flatnonzero(usable).tolist():
        box = float_face_box(points[i], height, **sizes)
        result[i] = whole_boxes[i] if box is None else box.as_tuple()
    return result


def _crop_boxes(boxes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    crops = np.zeros_like(boxes)
    for i in np.flatnonzero(boxes.any(1)):
        crops[i] = crop_box(Box(*boxes[i].tolist())).as_tuple()
    return crops
