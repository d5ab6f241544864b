"""What was seen in a source, as the rows of its bundle: one a frame, usable or not, each with its reason."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.prep.report import FrameReport, judge, turned
from services.prep.scan import Scan
from services.prep.spot import box_points
from services.prep.track import main_face, steady
from warmtalk.core.bundle import Faces
from warmtalk.core.faces import crop_box, face_box
from warmtalk.core.types import Box


def rows(found: Scan, *, bbox_shift: int, extra_margin: int, quiet: bool) -> tuple[Faces, list[FrameReport]]:
    """The faces of all frames, zeros where one is not usable, and what is said about each frame.

    `quiet` calms and bridges landmarks that a detector made frame by frame.
    """
    seen = found.seen
    chosen = main_face(seen, found.frames)
    present = chosen >= 0
    landmarks = np.zeros((found.frames, 468, 2), np.float32)
    landmarks[present] = seen.landmarks[chosen[present]]
    apart = np.full((found.frames, 68, 2), np.nan, np.float32)
    apart[present] = seen.apart[chosen[present]]
    if quiet:
        landmarks, present = steady(landmarks, present)
    points = box_points(landmarks, apart)
    counts = np.bincount(seen.frame, minlength=found.frames)
    boxes = np.zeros((found.frames, 4), np.int32)
    reports: list[FrameReport] = []
    for i in range(found.frames):
        if present[i]:
            box = face_box(points[i], found.height, bbox_shift=bbox_shift, extra_margin=extra_margin)
            box, reason = judge(box, landmarks[i], found.width, found.height)
            one = _seen(found, i, landmarks[i], int(chosen[i]), int(counts[i]), box, reason)
            if not reason and box is not None:
                boxes[i] = box.as_tuple()
        else:
            reason = "only another face is seen" if counts[i] else "no face is seen"
            one = FrameReport(i, int(counts[i]), "unusable", reason)
        reports.append(one)
    usable = np.array([one.verdict != "unusable" for one in reports], np.uint8)
    landmarks[usable == 0] = 0
    return Faces(boxes, _crop_boxes(boxes, usable), landmarks, usable), reports


def _crop_boxes(boxes: npt.NDArray[np.int32], usable: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    crops = np.zeros_like(boxes)
    for i in np.flatnonzero(usable):
        crops[i] = crop_box(Box(*boxes[i].tolist())).as_tuple()
    return crops


def _seen(
    found: Scan, index: int, mesh: npt.NDArray[np.float32], row: int, faces: int, box: Box | None, reason: str
) -> FrameReport:
    """`row` is the face's in `found.seen`, -1 where it was bridged."""
    return FrameReport(
        frame=index,
        faces=faces,
        verdict="unusable" if reason else "ok" if row >= 0 else "bridged",
        reason=reason,
        box=box.as_tuple() if box else None,
        turned=round(turned(mesh), 3),
        sharpness=round(float(found.seen.sharpness[row]), 1) if row >= 0 else 0.0,
        sure=round(float(found.seen.score[row]), 3) if row >= 0 else 0.0,
    )
