"""What is said about the footage: a verdict and a reason for each frame, and one line for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np

from warmtalk.core.types import Box, Points

SMALLEST_FACE = 32
"""Pixels across. Below, a drawn mouth is a few pixels wide."""
GOOD_FACE = 96
"""Pixels across. Below, it works but does not look like much."""
MOST_TURNED = 0.85
LEAST_VISIBLE = 0.7
"""Part of the lower half of the face box that must lie inside the frame."""
LEAST_SURE = 0.5


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One line of report.json."""

    frame: int
    faces: int
    """Faces seen in it, whoever they are."""
    verdict: str
    """One of "ok", "bridged" (drawn between its neighbours) or "unusable"."""
    reason: str = ""
    box: tuple[int, int, int, int] | None = None
    turned: float = 0.0
    """-1 to 1: 0 looks at the camera, beyond 0.6 is half a profile."""
    sharpness: float = 0.0
    sure: float = 0.0
    """0 to 1, how sure the finder was; low where something hides the face."""


def judge(box: Box | None, mesh: Points, width: int, height: int) -> tuple[Box | None, str]:
    """The face box of a [468, 2] mesh, None where it is too small, and why it cannot be used; "" when it can."""
    if box is None or box.width < SMALLEST_FACE or box.height < SMALLEST_FACE:
        return None, "the face is too small"
    if abs(turned(mesh)) > MOST_TURNED:
        return box, "the face is turned away"
    if _visible(box, width, height) < LEAST_VISIBLE:
        return box, "the mouth is outside the picture"
    return box, ""


def turned(mesh: Points) -> float:
    """Where the nose stands between the two sides of the face along the line of the eyes: -1 to 1, 0 in the middle."""
    across = mesh[263] - mesh[33]
    across = across / max(float(np.linalg.norm(across)), 1e-6)
    right, left = float((mesh[1] - mesh[234]) @ across), float((mesh[454] - mesh[1]) @ across)
    return float(np.clip((right - left) / max(abs(right) + abs(left), 1e-6), -1, 1))


def _visible(box: Box, width: int, height: int) -> float:
    lower = Box(box.x1, (box.y1 + box.y2) // 2, box.x2, box.y2)
    inside = lower.clipped(width, height)
    return inside.width * inside.height / max(lower.width * lower.height, 1)


def report(frames: list[FrameReport]) -> dict[str, object]:
    """report.json."""
    return {"summary": summary(frames), "frames": [asdict(frame) for frame in frames]}


def summary(frames: list[FrameReport]) -> str:
    """ "250 frames, 250 usable, face 312 px; fine"."""
    usable = [frame for frame in frames if frame.verdict != "unusable"]
    across = sorted(frame.box[2] - frame.box[0] for frame in usable if frame.box)
    size = across[len(across) // 2] if across else 0
    return f"{len(frames)} frames, {len(usable)} usable, face {size} px; {'; '.join(_remarks(frames, size)) or 'fine'}"


def _remarks(frames: list[FrameReport], size: int) -> list[str]:
    remarks = []
    reasons = Counter(frame.reason for frame in frames if frame.verdict == "unusable")
    remarks += [f"in {count} frames {reason}" for reason, count in reasons.most_common(3)]
    if size < GOOD_FACE:
        remarks.append("the face is small, film it closer")
    if any(frame.faces > 1 for frame in frames):
        remarks.append("more than one face, the largest steady one is used")
    if sum(frame.sure < LEAST_SURE for frame in frames if frame.verdict == "ok") > len(frames) / 4:
        remarks.append("something hides the face")
    return remarks
