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
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from warmtalk.avatar.detect.appearance import PLACES, FaceAppearance, appearance_of
from warmtalk.avatar.detect.face_detection import FaceDetectorPair, FaceObservation, extent
from warmtalk.avatar.detect.head_motion import UNKNOWN, Motion, head_motion
from warmtalk.avatar.detect.person_tracking import FaceObservations
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Box, Image
from warmtalk.media.segment_writer import SegmentWriter

_SMALL = (64, 36)


class ScanSource(Protocol):
    """Frames of an avatar, and the faces in them."""

    drawn: bool
    """The frames were drawn from one picture, so their landmarks are exact."""

    @property
    def expected(self) -> int:
        """Frames in all; 0 while unknown."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not as it should be with the file, for people. Complete after the last frame."""
        ...

    def __iter__(self) -> Iterator[Image]: ...

    def look(self, index: int, image: Image) -> list[FaceObservation]:
        """Faces of frame `index`. Called in order, perhaps not for all."""
        ...


class VideoSource:
    """A film, looked at frame by frame."""

    drawn = False

    def __init__(self, frames: PhotoSource, spotter: FaceDetectorPair) -> None:
        self._frames = frames
        self._spotter = spotter
        self._near: Box | None = None

    @property
    def expected(self) -> int:
        return self._frames.expected_frames

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._frames.warnings

    def __iter__(self) -> Iterator[Image]:
        return iter(self._frames)

    def look(self, index: int, image: Image) -> list[FaceObservation]:
        found = self._spotter.spot(image, self._near)
        if found:
            self._near = extent(found[0].landmarks)
        return found


class PhotoSource(Protocol):
    """What `Video` needs of warmtalk.media.video_decode.VideoReader."""

    @property
    def expected_frames(self) -> int: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def __iter__(self) -> Iterator[Image]: ...


@dataclass(frozen=True, slots=True)
class SourceScan:
    """What the pass found out."""

    frames: int
    width: int
    height: int
    seen: FaceObservations
    change: npt.NDArray[np.float32]
    """[frames] mean grey difference to the frame before, 0 to 255, of the picture at 64 x 36; 0 for the first."""


def scan(source: ScanSource, work: Path, rate: Fraction, on_frame: Callable[[int, int], None]) -> SourceScan:
    """Fills `work/frames` and `work/parts`; segments that are there already are kept.

    `on_frame(done, expected)` is called after each frame and may raise to stop. Raises what the source, the segment
    writer and the volume do.
    """
    change: list[float] = []
    images = _noting(source, change)
    parts: list[FaceObservations] = []
    done, width, height = 0, 0, 0
    before: Image | None = None
    while (first := next(images, None)) is not None:
        height, width = first.shape[:2]
        number = len(parts)
        segment = enumerate(chain([first], islice(images, SEGMENT_FRAMES - 1)), start=done)
        finished = _finished(work, number)
        if finished is None:
            with SegmentWriter(_segment(work, number), width, height, rate) as writer:
                finished, done, before = _watch(source, segment, writer, on_frame, before)
            _save(work, number, finished)
        else:
            for done, image in segment:
                before = image
                on_frame(done + 1, source.expected)
            done += 1
        parts.append(finished)
    joined = [np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(FaceObservations)]
    return SourceScan(done, width, height, FaceObservations(*joined), np.array(change, np.float32))


def _noting(source: ScanSource, change: list[float]) -> Iterator[Image]:
    """The source's frames; how much each differs from the one before is added to `change`."""
    before: npt.NDArray[np.int16] | None = None
    for image in source:
        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        now = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.int16)
        change.append(0.0 if before is None else float(np.abs(now - before).mean()))
        before = now
        yield image


def _watch(
    source: ScanSource,
    segment: Iterator[tuple[int, Image]],
    writer: SegmentWriter,
    on_frame: Callable[[int, int], None],
    before: Image | None,
) -> tuple[FaceObservations, int, Image | None]:
    """`before` is the frame before the segment. Also returns the number of frames so far, and the last of them."""
    rows: list[tuple[int, FaceObservation, FaceAppearance, Motion]] = []
    index = -1
    for index, image in segment:
        writer.write_frame(image)
        for face in source.look(index, image):
            motion = UNKNOWN if before is None or source.drawn else head_motion(image, before, face.landmarks)
            rows.append((index, face, appearance_of(image, face.landmarks), motion))
        before = image
        on_frame(index + 1, source.expected)
    seen = FaceObservations(
        frame=np.array([frame for frame, _, _, _ in rows], np.int32),
        score=np.array([face.score for _, face, _, _ in rows], np.float32),
        sharpness=np.array([look.sharpness for _, _, look, _ in rows], np.float32),
        exposure=np.array([look.exposure for _, _, look, _ in rows], np.float32),
        colours=np.array([look.colours for _, _, look, _ in rows], np.uint8).reshape(-1, PLACES, 3),
        landmarks=np.array([face.landmarks for _, face, _, _ in rows], np.float32).reshape(-1, 468, 2),
        apart=np.array([face.apart for _, face, _, _ in rows], np.float32).reshape(-1, 68, 2),
        motion=np.array([motion for _, _, _, motion in rows], np.float32).reshape(-1, 2, 3),
    )
    return seen, index + 1, before


def _segment(work: Path, number: int) -> Path:
    return work / "frames" / f"{number:05d}.mp4"


def _part(work: Path, number: int) -> Path:
    return work / "parts" / f"{number:05d}.safetensors"


def _finished(work: Path, number: int) -> FaceObservations | None:
    if not _part(work, number).is_file() or not _segment(work, number).is_file():
        return None
    try:
        return FaceObservations(**load_file(_part(work, number)))
    except (SafetensorError, OSError, TypeError):  # a power cut left half of it
        return None


def _save(work: Path, number: int, seen: FaceObservations) -> None:
    """After its segment, and whole or not at all: its being there says that both are done."""
    path = _part(work, number)
    temporary = path.with_suffix(".tmp")
    save_file({one.name: getattr(seen, one.name) for one in fields(FaceObservations)}, temporary)
    temporary.replace(path)
