"""Links face observations over time to persons, and selects the avatar's person. Persons are numbered from the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.appearance import colour_distance
from warmtalk.avatar.detect.face_detection import FaceObservation
from warmtalk.core.errors import InvalidInput

_Array = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]

SAME_FACE_IOU = 0.3
MAX_LOST_FRAMES = 12
"""Maximum number of frames a face may be missing before a detection at the same position starts a new track."""
MAX_TRACK_COLOUR_DISTANCE, MAX_PERSON_COLOUR_DISTANCE = 9.0, 5.0
"""Colour distances (see appearance.colour_distance) from which a face belongs to another person: first, a single
observation against a track's remembered colours; second, the median colours of two tracks."""
_MAX_WALK = 3.5
"""Maximum distance, in face widths, that a person may move while out of sight."""
_COLOUR_LEARNING_RATE = 0.2
"""Weight of each new observation in a track's remembered colours."""
_MIN_TRACK_SHARE = 0.05
"""Minimum share of the longest track's frames; shorter tracks are ignored as passers-by and get no number."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceObservations:
    """All faces observed in a video, ordered by frame. Arrays of one length m."""

    frame: npt.NDArray[np.int32]
    """[m] frame index of each observation."""
    score: _Array
    """[m] 0..1, detector score times mesh score."""
    sharpness: _Array
    """[m] see appearance.FaceAppearance; likewise `exposure` and `colours`."""
    exposure: _Array
    """[m]"""
    colours: npt.NDArray[np.uint8]
    """[m, 54, 3]"""
    landmarks: _Array
    """[m, 468, 2] frame pixels."""
    detector_offset: _Array
    """[m, 68, 2] the detector's iBUG points minus the mesh's, pixels; NaN where the detector does not see the face."""
    motion: _Array
    """[m, 2, 3] see head_motion.Motion."""

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person in a video."""

    number: int
    """Counted from 1, from the left."""
    rows: _Rows
    """Indices into FaceObservations, at most one per frame, ordered."""
    box: tuple[int, int, int, int]
    """Median bounding box of the face, frame pixels."""


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """Selects a person by number, by a point inside the face, or by default the largest in pixels over time."""

    number: int = 0
    at: tuple[int, int] | None = None


def cluster_persons(faces: FaceObservations) -> list[Person]:
    """Returns all persons except passers-by, from the left.

    Faces are linked from frame to frame by overlap with the predicted position and, where several faces are visible,
    by colour. A later or earlier track joins a person when the two do not overlap in time, lie at the same position
    and have a similar size.
    """
    boxes = bounding_boxes(faces.landmarks)
    groups = _group_tracks(faces, boxes, _link_tracks(faces, boxes))
    longest = max((len(rows) for rows in groups), default=0)
    steady = [np.array(rows, np.intp) for rows in groups if len(rows) > _MIN_TRACK_SHARE * longest]
    steady.sort(key=lambda rows: float(np.median(boxes[rows][:, ::2])))
    return [
        Person(number, rows, tuple(np.rint(np.median(boxes[rows], axis=0)).astype(int).tolist()))
        for number, rows in enumerate(steady, start=1)
    ]


def select_person(persons: Sequence[Person], choice: FaceChoice, source_name: str) -> Person | None:
    """Returns the chosen person; None when nobody is visible and no particular person was requested.

    The default is the person with the most pixels over time, so that a passer-by who is large for a moment does not
    win. `source_name` is used in messages. Raises InvalidInput when the requested person does not exist.
    """
    if choice.at is not None:
        x, y = choice.at
        hits = [one for one in persons if one.box[0] <= x <= one.box[2] and one.box[1] <= y <= one.box[3]]
        if not hits:
            raise InvalidInput(
                f"no face is at {x},{y} in {source_name}; {_describe(persons)}", "Choose one of these faces", field="at"
            )
        return min(hits, key=lambda one: abs(one.box[0] + one.box[2] - 2 * x) + abs(one.box[1] + one.box[3] - 2 * y))
    if choice.number:
        if choice.number > len(persons):
            raise InvalidInput(
                f"there is no face {choice.number} in {source_name}; {_describe(persons)}",
                "Choose one of these faces",
                field="face",
            )
        return persons[choice.number - 1]
    return max(persons, key=_pixels_over_time, default=None)


def select_face(faces: Sequence[FaceObservation], choice: FaceChoice, source_name: str) -> FaceObservation:
    """Returns the chosen face of a photo with at least one face. Raises InvalidInput when the choice does not exist."""
    ordered = sorted(faces, key=lambda face: float(face.landmarks[:, 0].mean()))
    boxes = bounding_boxes(np.stack([face.landmarks for face in ordered]))
    persons = [Person(i + 1, np.array([i]), tuple(np.rint(box).astype(int).tolist())) for i, box in enumerate(boxes)]
    person = select_person(persons, choice, source_name)
    assert person is not None
    return ordered[person.number - 1]


def rows_by_frame(person: Person | None, faces: FaceObservations, frames: int) -> _Rows:
    """Returns [frames] the index of the person's face in `faces`, -1 for frames without the person."""
    rows = np.full(frames, -1, np.intp)
    if person is not None:
        rows[faces.frame[person.rows]] = person.rows
    return rows


def bounding_boxes(landmarks: _Array) -> _Array:
    """Returns [m, 4] bounding boxes of [m, 468, 2] landmarks."""
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def _pixels_over_time(person: Person) -> float:
    x1, y1, x2, y2 = person.box
    return float((x2 - x1) * (y2 - y1) * len(person.rows))


def _describe(persons: Sequence[Person]) -> str:
    positions = [
        f"{one.number} at {(one.box[0] + one.box[2]) // 2},{(one.box[1] + one.box[3]) // 2}" for one in persons
    ]
    return f"faces from the left: face {', '.join(positions)}" if positions else "no face is visible"


@dataclass(slots=True, eq=False)
class _Track:
    """One face, followed without a long gap."""

    rows: list[int]
    box: _Array
    speed: _Array
    """[4] speed of the box's sides, pixels per frame."""
    colours: _Array
    last_frame: int

    def predict(self, frame: int) -> _Array:
        """Extrapolates the box for a few frames, then holds the position, so that a lost face does not run away."""
        return self.box + self.speed * min(frame - self.last_frame, 6)

    def add(self, row: int, frame: int, box: _Array, colours: _Array) -> None:
        speed = (box - self.box) / max(frame - self.last_frame, 1)
        self.speed = np.asarray((self.speed + speed) / 2, np.float32)
        self.colours = (1 - _COLOUR_LEARNING_RATE) * self.colours + _COLOUR_LEARNING_RATE * colours
        self.rows.append(row)
        self.box, self.last_frame = box, frame


def _link_tracks(faces: FaceObservations, boxes: _Array) -> list[_Track]:
    """Links faces from frame to frame, the best pair first."""
    tracks: list[_Track] = []
    crowded = _is_crowded(faces)
    start = 0
    for frame, count in zip(*np.unique(faces.frame, return_counts=True), strict=True):
        candidates = [track for track in tracks[-64:] if frame - track.last_frame <= MAX_LOST_FRAMES]
        rows = list(range(start, start + count))
        start += count
        colours = {row: faces.colours[row].astype(np.float32) for row in rows}
        pairs = []
        for i, track in enumerate(candidates):
            for row in rows:
                overlap = _iou(track.predict(frame), boxes[row])
                distance = colour_distance(track.colours, colours[row]) if crowded else 0.0
                if overlap >= SAME_FACE_IOU and distance < MAX_TRACK_COLOUR_DISTANCE:
                    pairs.append((overlap - distance / MAX_TRACK_COLOUR_DISTANCE, i, row))
        linked: set[int] = set()
        for _, i, row in sorted(pairs, reverse=True):
            if i not in linked and row in rows:
                candidates[i].add(row, frame, boxes[row], colours[row])
                linked.add(i)
                rows.remove(row)
        tracks += [_Track([row], boxes[row], np.zeros(4, np.float32), colours[row], frame) for row in rows]
    return tracks


def _group_tracks(faces: FaceObservations, boxes: _Array, tracks: list[_Track]) -> list[list[int]]:
    """Returns the rows of each person, ordered by frame. The largest tracks start persons, smaller tracks join."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    crowded = _is_crowded(faces)
    groups: list[list[int]] = []
    for track in sorted(tracks, key=lambda one: -float(areas[one.rows].sum())):
        for group in groups:
            if _same_person(group, track.rows, faces, boxes, crowded):
                group += track.rows
                group.sort()
                break
        else:
            groups.append(list(track.rows))
    return groups


def _same_person(group: list[int], rows: list[int], faces: FaceObservations, boxes: _Array, crowded: bool) -> bool:
    group_frames, frames = faces.frame[group], faces.frame[rows]
    if ((frames[0] <= group_frames) & (group_frames <= frames[-1])).any():
        return False
    nearest = group[int(np.abs(group_frames - frames[0]).argmin())]
    adjacent = rows[0] if faces.frame[nearest] < frames[0] else rows[-1]
    a, b = boxes[nearest], boxes[adjacent]
    size_a, size_b = float(a[2] - a[0]), float(b[2] - b[0])
    distance = float(np.abs((a[:2] + a[2:] - b[:2] - b[2:]) / 2).max()) / max(size_a, size_b, 1e-6)
    # Among several persons the colours decide, so a person may walk while hidden behind another person.
    if distance > (_MAX_WALK if crowded else 1.0) or not 0.5 < size_b / max(size_a, 1e-6) < 2:
        return False
    if not crowded:
        return True
    return colour_distance(_median_colours(faces, group), _median_colours(faces, rows)) < MAX_PERSON_COLOUR_DISTANCE


def _median_colours(faces: FaceObservations, rows: list[int]) -> _Array:
    return np.asarray(np.median(faces.colours[rows[:: max(1, len(rows) // 50)]], axis=0), np.float32)


def _is_crowded(faces: FaceObservations) -> bool:
    """Returns whether several persons are visible at once, so that position alone may confuse two persons."""
    return bool(len(faces) and np.bincount(faces.frame).max() > 1)


def _iou(a: _Array, b: _Array) -> float:
    common = float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
