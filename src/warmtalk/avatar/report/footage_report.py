"""report.json: what was found in the footage, how good it is, and what to do about it, in plain words.

version      1
summary      one line for people
grade        "good", "fair" or "poor"; grade_why: what keeps it from being good
advice       sentences with times
source       frames, fps, width, height, seconds
loop         first and last frame of the source that are played forth and back
longest_run  first and last frame of the longest part with a face in every frame, and its times
people       number (from the left), box, frames of everybody seen; `chosen` is the avatar's number
bbox_shift   used, automatic, and the adjustable range as the reference prints it: low, high
extra_margin pixels used
frames       one verdict.FrameReport each
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from warmtalk.avatar.track.frame_quality import (
    COVERED,
    DOWN,
    LEFT_OUT,
    NO_FACE,
    OTHER_FACE,
    OUTSIDE,
    PASSED,
    SMALL,
    TILTED,
    TURNED,
    UP,
    FrameReport,
)
from warmtalk.avatar.track.frame_table import FrameTable

VERSION = 1
REPORT, SHEET = "report.json", "contact_sheet.png"
"""Names in the bundle."""
GOOD_FACE, FAIR_FACE = 128, 64
"""Pixels across. Below the first it works but does not look like much, below the second it is hardly seen."""
SHARP, BLURRED = 40.0, 12.0
DARK, BRIGHT = 0.18, 0.85
LEAST_S = 2.0
_HALF_TURNED = 20.0
_MERGE_S = 0.2
_SPANS = 3

_DO = {
    NO_FACE: "cut there or accept the original picture",
    OTHER_FACE: "cut there, or choose another face with --face N",
    SMALL: "film it closer, or cut there",
    TURNED: "cut there or accept the original picture",
    UP: "cut there or accept the original picture",
    DOWN: "cut there or accept the original picture",
    TILTED: "turn the film upright, or cut there",
    OUTSIDE: "cut there or accept the original picture",
    COVERED: "cut there or accept the original picture",
}


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The source as a whole."""

    fps: Fraction
    width: int
    height: int
    film: bool
    remarks: tuple[str, ...] = ()
    """Of the decoder, in plain words."""


def footage_report(found: FrameTable, about: SourceDescription) -> dict[str, Any]:
    """report.json."""
    grade, why = _grade(found, about)
    first, stop = _longest_run(found.frames)
    return {
        "version": VERSION,
        "summary": summary(found.frames),
        "grade": grade,
        "grade_why": why,
        "advice": _advice(found, about),
        "source": {
            "frames": len(found.frames),
            "fps": str(about.fps),
            "width": about.width,
            "height": about.height,
            "seconds": _seconds(len(found.frames), about.fps),
        },
        "loop": {"first": found.first, "last": found.first + len(found.faces.usable) - 1},
        "longest_run": {
            "first": first,
            "last": stop - 1,
            "from_s": _seconds(first, about.fps),
            "to_s": _seconds(stop, about.fps),
        },
        "people": [{"number": one.number, "box": one.box, "frames": len(one.rows)} for one in found.people],
        "chosen": found.chosen,
        "bbox_shift": asdict(found.shift),
        "extra_margin": found.margin,
        "frames": [asdict(frame) for frame in found.frames],
    }


def summary(frames: Sequence[FrameReport]) -> str:
    """ "250 frames, 240 usable, face 312 px; in 10 frames no face is seen"."""
    kept = [frame for frame in frames if frame.verdict != LEFT_OUT]
    usable = [frame for frame in kept if frame.verdict != PASSED]
    words = [f"{len(kept)} frames, {len(usable)} usable, face {_size(usable)} px"]
    reasons = [frame.reason for frame in kept if frame.verdict == PASSED]
    most = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))
    return "; ".join(words + [f"in {_count(reasons.count(one), 'frame')} {one}" for one in most[:3]])


def _grade(found: FrameTable, about: SourceDescription) -> tuple[str, list[str]]:
    kept = [frame for frame in found.frames if frame.verdict != LEFT_OUT]
    usable = [frame for frame in kept if frame.verdict != PASSED]
    share = len(usable) / max(len(kept), 1)
    size, sharp, light = _size(usable), _median(usable, "sharpness"), _median(usable, "exposure")
    seconds = len(kept) / about.fps
    major = [
        (share < 0.8, f"only {share:.0%} of the frames have a face to draw on"),
        (size < FAIR_FACE, f"the face is {size} px wide; from {GOOD_FACE} it looks good"),
        (sharp < BLURRED, "the face is out of focus"),
    ]
    minor = [
        (0.8 <= share < 0.98, f"{1 - share:.0%} of the frames show the original picture"),
        (FAIR_FACE <= size < GOOD_FACE, f"the face is {size} px wide; from {GOOD_FACE} it looks good"),
        (BLURRED <= sharp < SHARP, "the face is a little soft"),
        (_cut(usable), "the face is cut by the edge of the picture"),
        (light < DARK, "the face is dark"),
        (light > BRIGHT, "the face is overexposed"),
        (_median(usable, "yaw", absolute=True) > _HALF_TURNED, "the face is half turned away most of the time"),
        (about.film and seconds < LEAST_S, f"it lasts {float(seconds):.1f} s: the loop will be noticed"),
    ]
    bad, weak = [why for true, why in major if true], [why for true, why in minor if true]
    return ("poor" if bad else "fair" if weak else "good"), bad + weak


def _advice(found: FrameTable, about: SourceDescription) -> list[str]:
    kept = [frame for frame in found.frames if frame.verdict != LEFT_OUT]
    words = list(about.remarks)
    for reason, do in _DO.items():
        spans = _spans((frame for frame in kept if frame.verdict == PASSED and frame.reason == reason), about.fps)
        spans.sort(key=lambda span: round(span[0] - span[1], 3))
        shown = sorted(spans[:_SPANS])
        if shown:
            times = " and ".join(f"from {a:.1f} s to {b:.1f} s" for a, b in shown)
            more = f" and {_count(len(spans) - _SPANS, 'more time')}" if len(spans) > _SPANS else ""
            words.append(f"{reason} {times}{more}: {do}")
    usable = [frame for frame in kept if frame.verdict != PASSED]
    size, sharp, light = _size(usable), _median(usable, "sharpness"), _median(usable, "exposure")
    if usable and size < GOOD_FACE:
        words.append(f"the face is {size} px wide: film it closer, or use a larger picture")
    if usable and sharp < SHARP:
        words.append("the face is soft: focus on the eyes, and use the original file instead of a copy")
    if usable and not DARK <= light <= BRIGHT:
        words.append("the face is dark: add light from the front" if light < DARK else "the face is too bright")
    if _cut(usable):
        words.append("the face touches the edge of the picture: leave some room around it")
    if len(found.people) > 1:
        count = len(found.people)
        words.append(
            f"{count} people are seen, face {found.chosen} from the left is used: choose another with --face N"
        )
    if about.film and len(kept) == 1:
        words.append("it holds a single picture: send that as jpg or png, so that it breathes and blinks")
    elif about.film and len(kept) / about.fps < LEAST_S:
        words.append("it is short: 10 to 60 s loop better")
    left = len(found.frames) - len(kept)
    if left:
        words.append(
            f"{_seconds(left, about.fps):.1f} s at the ends are left out, so that the loop turns in a quiet moment"
        )
    return words


def _longest_run(frames: Sequence[FrameReport]) -> tuple[int, int]:
    """Half-open range of frames with a face in each; 0, 0 when there is none."""
    best, start = (0, 0), 0
    for i, frame in enumerate(frames):
        if frame.verdict == PASSED:
            start = i + 1
        elif i + 1 - start > best[1] - best[0]:
            best = (start, i + 1)
    return best


def _spans(frames: Iterable[FrameReport], fps: Fraction) -> list[tuple[float, float]]:
    """Times from and to; pauses of less than a moment do not break one."""
    spans: list[tuple[float, float]] = []
    for frame in frames:
        start, stop = frame.time_s, frame.time_s + float(1 / fps)
        if spans and start - spans[-1][1] <= _MERGE_S:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return spans


def _cut(usable: Sequence[FrameReport]) -> bool:
    """Often enough to be seen."""
    return sum(frame.edge < 0 for frame in usable) > len(usable) / 4


def _size(usable: Sequence[FrameReport]) -> int:
    across = [frame.box[2] - frame.box[0] for frame in usable if frame.box]
    return round(float(np.median(across))) if across else 0


def _median(usable: Sequence[FrameReport], name: str, *, absolute: bool = False) -> float:
    """Of the frames in which it was measured; 0 when there is none."""
    values = [getattr(frame, name) for frame in usable if frame.sure]
    return float(np.median(np.abs(values) if absolute else values)) if values else 0.0


def _seconds(frames: int, fps: Fraction) -> float:
    return round(float(frames / fps), 2)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
