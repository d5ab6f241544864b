"""report.json: measurements on the footage, a grade, and advice in plain words.

version      1
summary      one line for people
grade        "good", "fair" or "poor"; grade_why: the defects that prevent a better grade
advice       sentences with times
source       frames, fps, width, height, seconds
loop         first and last source frame of the loop, which is played forwards and backwards
longest_run  first and last frame of the longest range with a face in every frame, and the times
people       number (from the left), box and frames of every person; `chosen` is the avatar's number
bbox_shift   used, automatic, and the adjustable range as printed by the reference: low, high
extra_margin pixels used
frames       one frame_quality.FrameReport each
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from warmtalk.avatar.track.frame_quality import (
    LEFT_OUT,
    LOOKS_DOWN,
    LOOKS_UP,
    MOUTH_COVERED,
    MOUTH_OUTSIDE,
    NO_FACE,
    OTHER_FACE,
    PASSED_THROUGH,
    TILTED,
    TOO_SMALL,
    TURNED_AWAY,
    FrameReport,
)
from warmtalk.avatar.track.frame_table import FrameTable

VERSION = 1
REPORT_FILE, CONTACT_SHEET_FILE = "report.json", "contact_sheet.png"
"""File names in the bundle."""
GOOD_FACE_PX, FAIR_FACE_PX = 128, 64
"""Widths in pixels. Below the first, a face works but shows little detail; below the second, the mouth is hardly
visible."""
MIN_SHARP, MAX_BLURRED = 40.0, 12.0
MAX_DARK, MIN_BRIGHT = 0.18, 0.85
"""Limits of FaceAppearance.sharpness and exposure."""
MIN_LOOP_S = 2.0
_HALF_TURNED_DEG = 20.0
_MAX_PAUSE_S = 0.2
"""Time ranges with the same problem are merged across shorter pauses."""
_MAX_SPANS = 3
"""Number of time ranges that the advice names per problem, the longest first."""

_ACTIONS = {
    NO_FACE: "cut there or accept the original image",
    OTHER_FACE: "cut there, or choose another face with --face N",
    TOO_SMALL: "film it closer, or cut there",
    TURNED_AWAY: "cut there or accept the original image",
    LOOKS_UP: "cut there or accept the original image",
    LOOKS_DOWN: "cut there or accept the original image",
    TILTED: "rotate the video upright, or cut there",
    MOUTH_OUTSIDE: "cut there or accept the original image",
    MOUTH_COVERED: "cut there or accept the original image",
}


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The source as a whole."""

    fps: Fraction
    width: int
    height: int
    video: bool
    """False for a photo."""
    warnings: tuple[str, ...] = ()
    """The decoder's warnings, in plain words."""


def footage_report(table: FrameTable, source: SourceDescription) -> dict[str, Any]:
    """Returns the content of report.json."""
    grade, why = _grade(table, source)
    first, stop = _longest_run(table.frames)
    return {
        "version": VERSION,
        "summary": summary(table.frames),
        "grade": grade,
        "grade_why": why,
        "advice": _advice(table, source),
        "source": {
            "frames": len(table.frames),
            "fps": str(source.fps),
            "width": source.width,
            "height": source.height,
            "seconds": _seconds(len(table.frames), source.fps),
        },
        "loop": {"first": table.first_frame, "last": table.first_frame + len(table.faces.usable) - 1},
        "longest_run": {
            "first": first,
            "last": stop - 1,
            "from_s": _seconds(first, source.fps),
            "to_s": _seconds(stop, source.fps),
        },
        "people": [{"number": one.number, "box": one.box, "frames": len(one.rows)} for one in table.persons],
        "chosen": table.chosen_person,
        "bbox_shift": asdict(table.bbox_shift),
        "extra_margin": table.extra_margin,
        "frames": [asdict(frame) for frame in table.frames],
    }


def summary(frames: Sequence[FrameReport]) -> str:
    """Returns one line such as "250 frames, 240 usable, face 312 px; in 10 frames no face is seen"."""
    kept = [frame for frame in frames if frame.verdict != LEFT_OUT]
    usable = [frame for frame in kept if frame.verdict != PASSED_THROUGH]
    counts = [f"{len(kept)} frames, {len(usable)} usable, face {_width(usable)} px"]
    reasons = [frame.reason for frame in kept if frame.verdict == PASSED_THROUGH]
    frequent = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))
    return "; ".join(counts + [f"in {_count(reasons.count(one), 'frame')} {one}" for one in frequent[:3]])


def _grade(table: FrameTable, source: SourceDescription) -> tuple[str, list[str]]:
    kept = [frame for frame in table.frames if frame.verdict != LEFT_OUT]
    usable = [frame for frame in kept if frame.verdict != PASSED_THROUGH]
    share = len(usable) / max(len(kept), 1)
    size, sharp, light = _width(usable), _median(usable, "sharpness"), _median(usable, "exposure")
    seconds = len(kept) / source.fps
    major = [
        (share < 0.8, f"only {share:.0%} of the frames have a usable face"),
        (size < FAIR_FACE_PX, f"the face is {size} px wide; from {GOOD_FACE_PX} it looks good"),
        (sharp < MAX_BLURRED, "the face is out of focus"),
    ]
    minor = [
        (0.8 <= share < 0.98, f"{1 - share:.0%} of the frames show the original image"),
        (FAIR_FACE_PX <= size < GOOD_FACE_PX, f"the face is {size} px wide; from {GOOD_FACE_PX} it looks good"),
        (MAX_BLURRED <= sharp < MIN_SHARP, "the face is a little soft"),
        (_touches_edge(usable), "the face is cut by the edge of the frame"),
        (light < MAX_DARK, "the face is dark"),
        (light > MIN_BRIGHT, "the face is overexposed"),
        (_median(usable, "yaw", absolute=True) > _HALF_TURNED_DEG, "the face is half turned away most of the time"),
        (
            source.video and seconds < MIN_LOOP_S,
            f"the video lasts {float(seconds):.1f} s: viewers will notice the loop",
        ),
    ]
    bad, weak = [why for true, why in major if true], [why for true, why in minor if true]
    return ("poor" if bad else "fair" if weak else "good"), bad + weak


def _advice(table: FrameTable, source: SourceDescription) -> list[str]:
    kept = [frame for frame in table.frames if frame.verdict != LEFT_OUT]
    usable = [frame for frame in kept if frame.verdict != PASSED_THROUGH]
    advice = [*source.warnings, *_problem_advice(kept, source.fps), *_quality_advice(usable)]
    if len(table.persons) > 1:
        chosen = f"face {table.chosen_person} from the left is used"
        advice.append(f"{len(table.persons)} people are visible, {chosen}: choose another with --face N")
    if source.video and len(kept) == 1:
        advice.append("the video holds a single image: send a jpg or png, so that the avatar breathes and blinks")
    elif source.video and len(kept) / source.fps < MIN_LOOP_S:
        advice.append("the video is short: 10 to 60 s loop better")
    if trimmed := len(table.frames) - len(kept):
        seconds = _seconds(trimmed, source.fps)
        advice.append(f"{seconds:.1f} s at the ends are left out, so that the loop turns in a quiet moment")
    return advice


def _problem_advice(kept: Sequence[FrameReport], fps: Fraction) -> Iterator[str]:
    """Yields a sentence for each reason why frames are passed through, with the longest time ranges."""
    for reason, action in _ACTIONS.items():
        spans = _spans((frame for frame in kept if frame.verdict == PASSED_THROUGH and frame.reason == reason), fps)
        spans.sort(key=lambda span: round(span[0] - span[1], 3))
        if shown := sorted(spans[:_MAX_SPANS]):
            times = " and ".join(f"from {start:.1f} s to {stop:.1f} s" for start, stop in shown)
            more = f" and {_count(len(spans) - _MAX_SPANS, 'more time')}" if len(spans) > _MAX_SPANS else ""
            yield f"{reason} {times}{more}: {action}"


def _quality_advice(usable: Sequence[FrameReport]) -> Iterator[str]:
    """Yields a sentence for each defect of the image."""
    if not usable:
        return
    size, sharp, light = _width(usable), _median(usable, "sharpness"), _median(usable, "exposure")
    if size < GOOD_FACE_PX:
        yield f"the face is {size} px wide: film it closer, or use a larger image"
    if sharp < MIN_SHARP:
        yield "the face is soft: focus on the eyes, and use the original file instead of a copy"
    if light < MAX_DARK:
        yield "the face is dark: add light from the front"
    elif light > MIN_BRIGHT:
        yield "the face is too bright"
    if _touches_edge(usable):
        yield "the face touches the edge of the frame: leave some room around it"


def _longest_run(frames: Sequence[FrameReport]) -> tuple[int, int]:
    """Returns the longest half-open range of frames with a face in each; 0, 0 when no frame has a face."""
    best, start = (0, 0), 0
    for i, frame in enumerate(frames):
        if frame.verdict == PASSED_THROUGH:
            start = i + 1
        elif i + 1 - start > best[1] - best[0]:
            best = (start, i + 1)
    return best


def _spans(frames: Iterable[FrameReport], fps: Fraction) -> list[tuple[float, float]]:
    """Returns the time ranges of the frames, merged across short pauses."""
    spans: list[tuple[float, float]] = []
    for frame in frames:
        start, stop = frame.time_s, frame.time_s + float(1 / fps)
        if spans and start - spans[-1][1] <= _MAX_PAUSE_S:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return spans


def _touches_edge(usable: Sequence[FrameReport]) -> bool:
    """Returns whether the face leaves the frame often enough to be visible."""
    return sum(frame.edge < 0 for frame in usable) > len(usable) / 4


def _width(usable: Sequence[FrameReport]) -> int:
    widths = [frame.box[2] - frame.box[0] for frame in usable if frame.box]
    return round(float(np.median(widths))) if widths else 0


def _median(usable: Sequence[FrameReport], name: str, *, absolute: bool = False) -> float:
    """Returns the median over the frames with a measurement; 0 without any."""
    values = [getattr(frame, name) for frame in usable if frame.sure]
    return float(np.median(np.abs(values) if absolute else values)) if values else 0.0


def _seconds(frames: int, fps: Fraction) -> float:
    return round(float(frames / fps), 2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
