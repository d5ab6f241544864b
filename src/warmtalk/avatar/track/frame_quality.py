"""What is said about one frame: which face it holds, how that face stands, and whether it can be drawn on."""

from __future__ import annotations

from dataclasses import dataclass

from warmtalk.avatar.detect.head_pose import Pose
from warmtalk.core.faces import IBUG_68
from warmtalk.core.types import Box, Points

USED, INTERPOLATED, PASSED, LEFT_OUT = "used", "interpolated", "passed through", "left out"
"""The verdicts: the face of this frame is drawn on; it is taken from its neighbours; the original picture is shown;
the frame is not part of the loop."""

SMALLEST_FACE = 32
"""Pixels across. Below, a drawn mouth is a few pixels wide."""
MOST_YAW, MOST_PITCH, MOST_ROLL = 35.0, 35.0, 45.0
"""Degrees. Beyond, the far corner of the mouth is out of sight, the mesh guesses, or the upright box cuts the mouth."""
MOST_HIDDEN = 0.45
LEAST_VISIBLE = 0.7
"""Part of the lower half of the face box that must lie inside the frame, and of the lips."""

_LIPS = IBUG_68[48:60]

NO_FACE, OTHER_FACE, SMALL = "no face is seen", "only another face is seen", "the face is too small"
TURNED, TILTED = "the face turns away", "the head is tilted too far"
UP, DOWN = "the face looks too far up", "the face looks too far down"
OUTSIDE, COVERED = "the mouth is outside the picture", "something is in front of the mouth"
PASSTHROUGH = "the loop turns in a quieter moment"


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame in report.json."""

    frame: int
    """Of the source, from 0."""
    time_s: float
    faces: int
    """Faces seen in it, whoever they are."""
    verdict: str
    reason: str = ""
    """Why it is passed through."""
    box: tuple[int, int, int, int] | None = None
    """Face box, frame pixels, half-open; may leave the frame."""
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    """Degrees; see pose.Pose."""
    sharpness: float = 0.0
    exposure: float = 0.0
    """See look.Look. 0 where the face was interpolated, as `sure`."""
    hidden: float = 0.0
    """0 to 1, estimated part of the mouth that something covers; see look.hidden."""
    edge: int = 0
    """Pixels from the face box to the nearest edge of the frame; negative where it leaves it."""
    sure: float = 0.0
    """0 to 1, how sure the finder was."""


def rejection_reason(box: Box | None, mesh: Points, pose: Pose, hidden: float, width: int, height: int) -> str:
    """Why a face with these [468, 2] points cannot be drawn on; "" when it can."""
    if box is None or box.width < SMALLEST_FACE or box.height < SMALLEST_FACE:
        return SMALL
    if min(_visible(box, width, height), _lips_inside(mesh, width, height)) < LEAST_VISIBLE:
        return OUTSIDE
    if abs(pose.roll) > MOST_ROLL:
        return TILTED
    if abs(pose.yaw) > MOST_YAW:
        return TURNED
    if abs(pose.pitch) > MOST_PITCH:
        return UP if pose.pitch > 0 else DOWN
    return COVERED if hidden > MOST_HIDDEN else ""


def edge_distance(box: Box, width: int, height: int) -> int:
    """Pixels to the nearest edge of the frame, negative where the box leaves it."""
    return min(box.x1, box.y1, width - box.x2, height - box.y2)


def _lips_inside(mesh: Points, width: int, height: int) -> float:
    """Part of the lips' outline. The face box tells nothing of it: it ends at the frame's lower edge."""
    lips = mesh[_LIPS]
    return float(((lips >= 0) & (lips < (width, height))).all(1).mean())


def _visible(box: Box, width: int, height: int) -> float:
    lower = Box(box.x1, (box.y1 + box.y2) // 2, box.x2, box.y2)
    inside = lower.clipped(width, height)
    return inside.width * inside.height / max(lower.width * lower.height, 1)
