"""Single pass over a source: decodes every frame once, detects faces, and writes the frame to a segment file.

Each segment file is completed together with the observations of its frames, so an interrupted build resumes after the
last complete segment.
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

from warmtalk.avatar.detect.appearance import SAMPLE_POINTS, FaceAppearance, measure_appearance
from warmtalk.avatar.detect.face_detection import FaceDetectorPair, FaceObservation, bounding_box
from warmtalk.avatar.detect.head_motion import UNKNOWN_MOTION, Motion, head_motion
from warmtalk.avatar.detect.person_tracking import MAX_LOST_FRAMES, FaceObservations
from warmtalk.core.bundle import SEGMENT_FRAMES
from warmtalk.core.types import Box, Image, Points
from warmtalk.media.segment_writer import SegmentWriter

_THUMBNAIL = (64, 36)
"""Width and height of the image whose change from frame to frame is measured."""


class ScanSource(Protocol):
    """Frames of an avatar, and the faces in each frame."""

    synthetic: bool
    """True when the frames were rendered from one photo, so that the landmarks are exact."""

    @property
    def expected_frames(self) -> int:
        """Total number of frames; 0 while unknown."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the file, in plain words. Complete after the last frame."""
        ...

    def __iter__(self) -> Iterator[Image]: ...

    def detect_faces(self, index: int, image: Image) -> list[FaceObservation]:
        """Returns the faces of frame `index`. Called in order, but not necessarily for every frame."""
        ...


class FrameStream(Protocol):
    """The part of media.video_decode.VideoReader that VideoSource uses."""

    @property
    def expected_frames(self) -> int:
        """See ScanSource."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """See ScanSource."""
        ...

    def __iter__(self) -> Iterator[Image]: ...


class VideoSource:
    """A ScanSource that detects the faces of each frame of a video."""

    synthetic = False

    def __init__(self, frames: FrameStream, detectors: FaceDetectorPair) -> None:
        self._frames = frames
        self._detectors = detectors
        self._near: Box | None = None
        self._meshes: list[Points] = []
        self._last_seen = 0

    @property
    def expected_frames(self) -> int:
        """See ScanSource."""
        return self._frames.expected_frames

    @property
    def warnings(self) -> tuple[str, ...]:
        """See ScanSource."""
        return self._frames.warnings

    def __iter__(self) -> Iterator[Image]:
        return iter(self._frames)

    def detect_faces(self, index: int, image: Image) -> list[FaceObservation]:
        """Returns the faces of the frame; earlier faces are the hints of the search, see FaceFinder.find."""
        previous = self._meshes if index - self._last_seen <= MAX_LOST_FRAMES else ()
        faces = self._detectors.detect(image, self._near, previous)
        if faces:
            self._meshes = [face.landmarks for face in faces]
            self._near, self._last_seen = bounding_box(self._meshes[0]), index
        return faces


@dataclass(frozen=True, slots=True)
class SourceScan:
    """Result of the pass over a source."""

    frames: int
    width: int
    height: int
    faces: FaceObservations
    frame_change: npt.NDArray[np.float32]
    """[frames] mean grey difference to the previous frame, 0 to 255, of the image reduced to 64 x 36; 0 for the first
    frame."""


def scan_source(source: ScanSource, work: Path, rate: Fraction, on_frame: Callable[[int, int], None]) -> SourceScan:
    """Fills `work/frames` and `work/parts`, and keeps the segments that are already complete.

    `on_frame(done, expected)` is called after each frame and may raise to stop. Raises the errors of the source, of the
    segment writer and of the file system.
    """
    changes: list[float] = []
    images = _measure_change(source, changes)
    parts: list[FaceObservations] = []
    done, width, height = 0, 0, 0
    previous: Image | None = None
    while (first := next(images, None)) is not None:
        height, width = first.shape[:2]
        number = len(parts)
        segment = enumerate(chain([first], islice(images, SEGMENT_FRAMES - 1)), start=done)
        part = _load_part(work, number)
        if part is None:
            with SegmentWriter(_segment_path(work, number), width, height, rate) as writer:
                part, done, previous = _scan_segment(source, segment, writer, on_frame, previous)
            _save_part(work, number, part)
        else:
            for done, image in segment:
                previous = image
                on_frame(done + 1, source.expected_frames)
            done += 1
        parts.append(part)
    joined = [np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(FaceObservations)]
    return SourceScan(done, width, height, FaceObservations(*joined), np.array(changes, np.float32))


def _measure_change(source: ScanSource, changes: list[float]) -> Iterator[Image]:
    """Yields the source's frames and appends each frame's difference to the previous frame to `changes`."""
    previous: npt.NDArray[np.int16] | None = None
    for image in source:
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.int16)
        changes.append(0.0 if previous is None else float(np.abs(grey - previous).mean()))
        previous = grey
        yield image


def _scan_segment(
    source: ScanSource,
    segment: Iterator[tuple[int, Image]],
    writer: SegmentWriter,
    on_frame: Callable[[int, int], None],
    previous: Image | None,
) -> tuple[FaceObservations, int, Image | None]:
    """Returns the observations of the segment, the number of frames so far, and the last frame.

    `previous` is the frame before the segment.
    """
    rows: list[tuple[int, FaceObservation, FaceAppearance, Motion]] = []
    index = -1
    for index, image in segment:
        writer.write_frame(image)
        for face in source.detect_faces(index, image):
            motion = UNKNOWN_MOTION
            if previous is not None and not source.synthetic:
                motion = head_motion(image, previous, face.landmarks)
            rows.append((index, face, measure_appearance(image, face.landmarks), motion))
        previous = image
        on_frame(index + 1, source.expected_frames)
    return _observations(rows), index + 1, previous


def _observations(rows: list[tuple[int, FaceObservation, FaceAppearance, Motion]]) -> FaceObservations:
    return FaceObservations(
        frame=np.array([frame for frame, _, _, _ in rows], np.int32),
        score=np.array([face.score for _, face, _, _ in rows], np.float32),
        sharpness=np.array([appearance.sharpness for _, _, appearance, _ in rows], np.float32),
        exposure=np.array([appearance.exposure for _, _, appearance, _ in rows], np.float32),
        colours=np.array([appearance.colours for _, _, appearance, _ in rows], np.uint8).reshape(-1, SAMPLE_POINTS, 3),
        landmarks=np.array([face.landmarks for _, face, _, _ in rows], np.float32).reshape(-1, 468, 2),
        detector_offset=np.array([face.detector_offset for _, face, _, _ in rows], np.float32).reshape(-1, 68, 2),
        motion=np.array([motion for _, _, _, motion in rows], np.float32).reshape(-1, 2, 3),
    )


def _segment_path(work: Path, number: int) -> Path:
    return work / "frames" / f"{number:05d}.mp4"


def _part_path(work: Path, number: int) -> Path:
    return work / "parts" / f"{number:05d}.safetensors"


def _load_part(work: Path, number: int) -> FaceObservations | None:
    """Returns the saved observations of a complete segment; None for a missing or damaged part."""
    if not _part_path(work, number).is_file() or not _segment_path(work, number).is_file():
        return None
    try:
        return FaceObservations(**load_file(_part_path(work, number)))
    except (SafetensorError, OSError, TypeError):  # a power failure left an incomplete file
        return None


def _save_part(work: Path, number: int, part: FaceObservations) -> None:
    """Writes the part atomically and after its segment: an existing part proves that both files are complete."""
    path = _part_path(work, number)
    temporary = path.with_suffix(".tmp")
    save_file({one.name: getattr(part, one.name) for one in fields(FaceObservations)}, temporary)
    temporary.replace(path)
