"""Whose face is whose, over time, and which one is the avatar's. People are numbered from the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.appearance import difference
from warmtalk.avatar.detect.face_detection import FaceObservation
from warmtalk.core.errors import InvalidInput

_Array = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]

SAME_FACE_IOU = 0.3
MAX_LOST_FRAMES = 12
"""A face that comes back at its place within so many frames is the same one."""
STRANGER, OTHER_PERSON = 9.0, 5.0
"""A sight of a face that differs so much in colour from what is remembered is of somebody else; and so are the
usual colours of two tracks that differ by the second. See look.difference."""
_WALKED = 3.5
"""Face widths that somebody may have gone while out of sight."""
_LEARNING = 0.2
"""Part of each new sight in what is remembered of a face."""
_LEAST_SHARE = 0.05
"""Of the frames of whoever is seen longest. Who is seen for less passed by and gets no number."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceObservations:
    """All faces seen in a film, ordered by frame. Arrays of one length m."""

    frame: npt.NDArray[np.int32]
    """[m] frame of each."""
    score: _Array
    """[m] 0..1, detector times mesh."""
    sharpness: _Array
    """[m] see look.Look, as the next two."""
    exposure: _Array
    """[m]"""
    colours: npt.NDArray[np.uint8]
    """[m, 54, 3]"""
    landmarks: _Array
    """[m, 468, 2] frame pixels."""
    apart: _Array
    """[m, 68, 2] pixels from the mesh's iBUG points to the detector's; NaN where it does not see the face."""
    motion: _Array
    """[m, 2, 3] see motion.Motion."""

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One of the people in a film."""

    number: int
    """From 1, from the left."""
    rows: _Rows
    """Of the sightings, one a frame, ordered."""
    box: tuple[int, int, int, int]
    """Median of the face's extent, frame pixels."""


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Which person is meant: by number, by a point of the picture, or, with neither, the largest steady one."""

    number: int = 0
    at: tuple[int, int] | None = None


def cluster_persons(seen: FaceObservations) -> list[Person]:
    """Everybody who is more than a passer-by, from the left.

    Faces are linked from frame to frame by overlap with where they are expected and, where several are seen, by
    their colours; later or earlier pieces join a person when they do not overlap in time and lie where it was, at a
    similar size.
    """
    boxes = extents(seen.landmarks)
    groups = _grouped(seen, boxes, _tracks(seen, boxes))
    longest = max((len(rows) for rows in groups), default=0)
    steady = [np.array(rows, np.intp) for rows in groups if len(rows) > _LEAST_SHARE * longest]
    steady.sort(key=lambda rows: float(np.median(boxes[rows][:, ::2])))
    return [
        Person(number, rows, tuple(np.rint(np.median(boxes[rows], axis=0)).astype(int).tolist()))
        for number, rows in enumerate(steady, start=1)
    ]


def select_person(found: Sequence[Person], choice: FaceChoice, name: str) -> Person | None:
    """The one that is meant; None when nobody is seen and nobody in particular was asked for.

    The largest is the one with the most pixels over time: a passer-by who is large for a moment is not.
    `name` is the source's, for messages. Raises InvalidInput when the one asked for is not there.
    """
    if choice.at is not None:
        x, y = choice.at
        there = [one for one in found if one.box[0] <= x <= one.box[2] and one.box[1] <= y <= one.box[3]]
        if not there:
            raise InvalidInput(f"no face is at {x},{y} in {name}; {_seen(found)}", "Take one of these", field="at")
        return min(there, key=lambda one: abs(one.box[0] + one.box[2] - 2 * x) + abs(one.box[1] + one.box[3] - 2 * y))
    if choice.number:
        if choice.number > len(found):
            raise InvalidInput(
                f"there is no face {choice.number} in {name}; {_seen(found)}", "Take one of these", field="face"
            )
        return found[choice.number - 1]
    return max(found, key=_pixels, default=None)


def select_face(faces: Sequence[FaceObservation], choice: FaceChoice, name: str) -> FaceObservation:
    """Of the faces of a photo, at least one. Raises InvalidInput when the one asked for is not there."""
    ordered = sorted(faces, key=lambda face: float(face.landmarks[:, 0].mean()))
    boxes = extents(np.stack([face.landmarks for face in ordered]))
    found = [Person(i + 1, np.array([i]), tuple(np.rint(box).astype(int).tolist())) for i, box in enumerate(boxes)]
    person = select_person(found, choice, name)
    assert person is not None
    return ordered[person.number - 1]


def by_frame(person: Person | None, seen: FaceObservations, frames: int) -> _Rows:
    """[frames] row of the person's face in `seen`, -1 where it is not."""
    chosen = np.full(frames, -1, np.intp)
    if person is not None:
        chosen[seen.frame[person.rows]] = person.rows
    return chosen


def extents(landmarks: _Array) -> _Array:
    """[m, 468, 2] to [m, 4] the box around each face."""
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def _pixels(person: Person) -> float:
    x1, y1, x2, y2 = person.box
    return float((x2 - x1) * (y2 - y1) * len(person.rows))


def _seen(found: Sequence[Person]) -> str:
    places = [f"{one.number} at {(one.box[0] + one.box[2]) // 2},{(one.box[1] + one.box[3]) // 2}" for one in found]
    return f"seen from the left: face {', '.join(places)}" if places else "no face is seen in it"


@dataclass(slots=True, eq=False)
class _Track:
    """One face, followed without a long break."""

    rows: list[int]
    box: _Array
    speed: _Array
    """[4] of the box's sides, pixels a frame."""
    colours: _Array
    last: int

    def expected(self, frame: int) -> _Array:
        """Goes on for a moment, then stays: what is lost for long does not run away."""
        return self.box + self.speed * min(frame - self.last, 6)

    def add(self, row: int, frame: int, box: _Array, colours: _Array) -> None:
        self.speed = np.asarray((self.speed + (box - self.box) / max(frame - self.last, 1)) / 2, np.float32)
        self.colours = (1 - _LEARNING) * self.colours + _LEARNING * colours
        self.rows.append(row)
        self.box, self.last = box, frame


def _tracks(seen: FaceObservations, boxes: _Array) -> list[_Track]:
    """Each face, linked from frame to frame, the best pair first."""
    tracks: list[_Track] = []
    crowd = _crowded(seen)
    start = 0
    for number, count in zip(*np.unique(seen.frame, return_counts=True), strict=True):
        free = [track for track in tracks[-64:] if number - track.last <= MAX_LOST_FRAMES]
        rows = list(range(start, start + count))
        start += count
        looks = {row: seen.colours[row].astype(np.float32) for row in rows}
        pairs = []
        for i, track in enumerate(free):
            for row in rows:
                overlap = _iou(track.expected(number), boxes[row])
                unlike = difference(track.colours, looks[row]) if crowd else 0.0
                if overlap >= SAME_FACE_IOU and unlike < STRANGER:
                    pairs.append((overlap - unlike / STRANGER, i, row))
        taken: set[int] = set()
        for _, i, row in sorted(pairs, reverse=True):
            if i not in taken and row in rows:
                free[i].add(row, number, boxes[row], looks[row])
                taken.add(i)
                rows.remove(row)
        tracks += [_Track([row], boxes[row], np.zeros(4, np.float32), looks[row], number) for row in rows]
    return tracks


def _grouped(seen: FaceObservations, boxes: _Array, tracks: list[_Track]) -> list[list[int]]:
    """Rows of each person, ordered by frame; the largest pieces first find a person, the others join one."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    crowd = _crowded(seen)
    groups: list[list[int]] = []
    for track in sorted(tracks, key=lambda one: -float(areas[one.rows].sum())):
        for group in groups:
            if _joins(group, track.rows, seen, boxes, crowd):
                group += track.rows
                group.sort()
                break
        else:
            groups.append(list(track.rows))
    return groups


def _joins(group: list[int], rows: list[int], seen: FaceObservations, boxes: _Array, crowd: bool) -> bool:
    known, mine = seen.frame[group], seen.frame[rows]
    if ((mine[0] <= known) & (known <= mine[-1])).any():
        return False
    nearest = group[int(np.abs(known - mine[0]).argmin())]
    next_to_it = rows[0] if seen.frame[nearest] < mine[0] else rows[-1]
    a, b = boxes[nearest], boxes[next_to_it]
    size_a, size_b = float(a[2] - a[0]), float(b[2] - b[0])
    far = float(np.abs((a[:2] + a[2:] - b[:2] - b[2:]) / 2).max()) / max(size_a, size_b, 1e-6)
    # Among several people the colours decide, so one may walk on while hidden behind another.
    if far > (_WALKED if crowd else 1.0) or not 0.5 < size_b / max(size_a, 1e-6) < 2:
        return False
    return not crowd or difference(_usual(seen, group), _usual(seen, rows)) < OTHER_PERSON


def _usual(seen: FaceObservations, rows: list[int]) -> _Array:
    return np.asarray(np.median(seen.colours[rows[:: max(1, len(rows) // 50)]], axis=0), np.float32)


def _crowded(seen: FaceObservations) -> bool:
    """Several people are seen at once, so that place alone may mistake one for another."""
    return bool(len(seen) and np.bincount(seen.frame).max() > 1)


def _iou(a: _Array, b: _Array) -> float:
    common = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
