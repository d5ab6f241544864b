"""The one pass over a source: every frame is decoded once, looked at once and written to its segment.

Each segment is finished together with what was seen in it, so a build that was cut off goes on after the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from services.prep.spot import Sighting, Spotter, extent
from services.prep.track import Sightings
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Box, Image, Points
from warmtalk.media.segments import SegmentWriter

_LOOK_SIDE = 128


class Source(Protocol):
    """Frames of an avatar, and the faces in them."""

    @property
    def expected(self) -> int:
        """Frames in all; 0 while unknown."""
        ...

    def __iter__(self) -> Iterator[Image]: ...

    def look(self, index: int, image: Image) -> list[Sighting]:
        """Faces of frame `index`. Called in order, perhaps not for all."""
        ...


class Video:
    """A film, looked at frame by frame."""

    def __init__(self, frames: VideoLike, spotter: Spotter) -> None:
        self._frames = frames
        self._spotter = spotter
        self._near: Box | None = None

    @property
    def expected(self) -> int:
        return self._frames.expected

    def __iter__(self) -> Iterator[Image]:
        return iter(self._frames)

    def look(self, index: int, image: Image) -> list[Sighting]:
        found = self._spotter.spot(image, self._near)
        if found:
            self._near = extent(found[0].landmarks)
        return found


class VideoLike(Protocol):
    """What `Video` needs of warmtalk.media.decode.VideoFrames."""

    @property
    def expected(self) -> int: ...

    def __iter__(self) -> Iterator[Image]: ...


@dataclass(frozen=True, slots=True)
class Scan:
    """What the pass found out."""

    frames: int
    width: int
    height: int
    seen: Sightings


def scan(source: Source, work: Path, rate: Fraction, on_frame: Callable[[int, int], None]) -> Scan:
    """Fills `work/frames` and `work/parts`; segments that are there already are kept.

    `on_frame(done, expected)` is called after each frame and may raise to stop. Raises what the source, the segment
    writer and the volume do.
    """
    images = iter(source)
    parts: list[Sightings] = []
    done, width, height = 0, 0, 0
    while (first := next(images, None)) is not None:
        height, width = first.shape[:2]
        number = len(parts)
        segment = enumerate(chain([first], islice(images, SEGMENT_FRAMES - 1)), start=done)
        finished = _finished(work, number)
        if finished is None:
            with SegmentWriter(_segment(work, number), width, height, rate) as writer:
                finished, done = _watch(source, segment, writer, on_frame)
            _save(work, number, finished)
        else:
            for done, _ in segment:
                on_frame(done + 1, source.expected)
            done += 1
        parts.append(finished)
    joined = [np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Sightings)]
    return Scan(done, width, height, Sightings(*joined))


def _watch(
    source: Source, segment: Iterator[tuple[int, Image]], writer: SegmentWriter, on_frame: Callable[[int, int], None]
) -> tuple[Sightings, int]:
    rows: list[tuple[int, float, float, Points, Points]] = []
    index = -1
    for index, image in segment:
        writer.write(image)
        rows += [
            (index, face.score, _sharpness(image, face.landmarks), face.landmarks, face.apart)
            for face in source.look(index, image)
        ]
        on_frame(index + 1, source.expected)
    landmarks = np.array([row[3] for row in rows], np.float32).reshape(-1, 468, 2)
    apart = np.array([row[4] for row in rows], np.float32).reshape(-1, 68, 2)
    columns = [np.array([row[i] for row in rows]) for i in range(3)]
    seen = Sightings(
        columns[0].astype(np.int32), columns[1].astype(np.float32), columns[2].astype(np.float32), landmarks, apart
    )
    return seen, index + 1


def _sharpness(image: Image, landmarks: Points) -> float:
    low, high = landmarks.min(0).astype(int), landmarks.max(0).astype(int)
    box = Box(*low.tolist(), *high.tolist()).clipped(image.shape[1], image.shape[0])
    if box.empty:
        return 0.0
    face = cv2.cvtColor(image[box.y1 : box.y2, box.x1 : box.x2], cv2.COLOR_BGR2GRAY)
    small = cv2.resize(face, (_LOOK_SIDE, _LOOK_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def _segment(work: Path, number: int) -> Path:
    return work / "frames" / f"{number:05d}.mp4"


def _part(work: Path, number: int) -> Path:
    return work / "parts" / f"{number:05d}.safetensors"


def _finished(work: Path, number: int) -> Sightings | None:
    if not _part(work, number).is_file() or not _segment(work, number).is_file():
        return None
    try:
        return Sightings(**load_file(_part(work, number)))
    except (SafetensorError, OSError, TypeError):  # a power cut left half of it
        return None


def _save(work: Path, number: int, seen: Sightings) -> None:
    """After its segment, and whole or not at all: its being there says that both are done."""
    path = _part(work, number)
    temporary = path.with_suffix(".tmp")
    save_file({one.name: getattr(seen, one.name) for one in fields(Sightings)}, temporary)
    temporary.replace(path)
