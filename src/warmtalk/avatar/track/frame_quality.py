"""Quality gate of one frame: the report on its face, and the reason why the face cannot be rendered."""

from __future__ import annotations

from dataclasses import dataclass

from warmtalk.avatar.detect.head_pose import Pose
from warmtalk.core.faces import IBUG_68
from warmtalk.core.types import Box, Points

USED, INTERPOLATED, PASSED_THROUGH, LEFT_OUT = "used", "interpolated", "passed through", "left out"
"""Verdicts: the face of this frame is rendered; the face is interpolated from the neighbouring frames; the original
image is shown; the frame is not part of the loop."""

MIN_FACE_PX = 32
"""Minimum width and height of the face box: below, a rendered mouth is a few pixels wide."""
MAX_YAW, MAX_PITCH, MAX_ROLL = 35.0, 35.0, 45.0
"""Degrees. Beyond, the far corner of the mouth is hidden, the mesh is a guess, or the upright box cuts the mouth."""
MAX_OCCLUSION = 0.45
MIN_VISIBLE = 0.7
"""Minimum share of the lower half of the face box, and of the outline of the lips, inside the frame."""

_LIPS = IBUG_68[48:60]

NO_FACE, OTHER_FACE, TOO_SMALL = "no face is seen", "only another face is seen", "the face is too small"
TURNED_AWAY, TILTED = "the face turns away", "the head is tilted too far"
LOOKS_UP, LOOKS_DOWN = "the face looks too far up", "the face looks too far down"
MOUTH_OUTSIDE, MOUTH_COVERED = "the mouth is outside the frame", "something is in front of the mouth"
OUTSIDE_LOOP = "the loop turns in a quieter moment"


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame in report.json; the fields are the keys there."""

    frame: int
    """Index in the source, from 0."""
    time_s: float
    faces: int
    """Number of faces detected in the frame, of all persons."""
    verdict: str
    reason: str = ""
    """Reason why the frame is passed through."""
    box: tuple[int, int, int, int] | None = None
    """Face box, frame pixels, half-open; may leave the frame."""
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    """Degrees; see head_pose.Pose."""
    sharpness: float = 0.0
    exposure: float = 0.0
    """See appearance.FaceAppearance. 0 where the face was interpolated; likewise `sure`."""
    hidden: float = 0.0
    """0 to 1, estimated share of the mouth that an object covers; see appearance.occlusion."""
    edge: int = 0
    """Pixels from the face box to the nearest edge of the frame; negative where the box leaves the frame."""
    sure: float = 0.0
    """0 to 1, confidence of the face finder."""


def rejection_reason(box: Box | None, mesh: Points, pose: Pose, occlusion: float, width: int, height: int) -> str:
    """Returns the reason why a face with these [468, 2] mesh points cannot be rendered; "" for a usable face."""
    if box is None or box.width < MIN_FACE_PX or box.height < MIN_FACE_PX:
        return TOO_SMALL
    if min(_visible_share(box, width, height), _lips_inside(mesh, width, height)) < MIN_VISIBLE:
        return MOUTH_OUTSIDE
    if abs(pose.roll) > MAX_ROLL:
        return TILTED
    if abs(pose.yaw) > MAX_YAW:
        return TURNED_AWAY
    if abs(pose.pitch) > MAX_PITCH:
        return LOOKS_UP if pose.pitch > 0 else LOOKS_DOWN
    return MOUTH_COVERED if occlusion > MAX_OCCLUSION else ""


def edge_distance(box: Box, width: int, height: int) -> int:
    """Returns the pixels to the nearest edge of the frame, negative where the box leaves the frame."""
    return min(box.x1, box.y1, width - box.x2, height - box.y2)


def _lips_inside(mesh: Points, width: int, height: int) -> float:
    """Returns the share of the lips' outline inside the frame.

    The face box cannot tell, because the box ends at the lower edge of the frame.
    """
    lips = mesh[_LIPS]
    return float(((lips >= 0) & (lips < (width, height))).all(1).mean())


def _visible_share(box: Box, width: int, height: int) -> float:
    lower = Box(box.x1, (box.y1 + box.y2) // 2, box.x2, box.y2)
    inside = lower.clipped(width, height)
    return inside.width * inside.height / max(lower.width * lower.height, 1)
