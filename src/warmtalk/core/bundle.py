"""Avatar bundle on the shared volume: `avatars/<avatar_id>/`.

    avatar.json           description and build parameters (AvatarInfo)
    frames/00000.mp4 ...  each source frame once, SEGMENT_FRAMES a file, so that any frame is found without seeking
    faces.safetensors     boxes [n,4] int32, crop_boxes [n,4] int32, landmarks [n,468,2] float32, usable [n] uint8,
                          optionally places [n,4] float32 (FaceTable)
    latents.safetensors   latents [n,8,32,32] float16, only when prepared for MuseTalk (Latents)
    masks/00000000.png    blend mask of each usable row, S x S uint8, S the side of the crop box
    report.json           quality of the footage and findings in each frame, for people
    contact_sheet.png     the same as an image

A build writes to a temporary folder and renames the folder at the end, so that a reader never sees a partial bundle.
The formats of the files are in bundle_files.py.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from warmtalk.core.bundle_files import damaged, read_faces, read_info
from warmtalk.core.types import Box, FloatBox, Image, Mask, Points

SEGMENT_FRAMES = 50
"""Frames in one segment file; the last file of a bundle may hold fewer."""


class Bundle:
    """A finished avatar, opened for reading. Thread-safe.

    Raises Damaged when a file is missing or unreadable, or when files contradict each other.
    """

    def __init__(self, path: Path, *, cache_bytes: int = 512 << 20) -> None:
        """`cache_bytes` limits the decoded frames in memory; one segment always stays."""
        self.path = path
        self.info = read_info(path)
        self.faces = read_faces(path)
        info = self.info
        if len(self.faces.usable) != info.frames:
            raise damaged(path, f"faces.safetensors has {len(self.faces.usable)} rows for {info.frames} frames")
        if info.first_frame < 0 or info.first_frame + info.frames > info.stored:
            raise damaged(path, f"frames {info.first_frame} + {info.frames} exceed {info.stored} stored frames")
        self._frames = _SegmentCache(path, info.stored, cache_bytes)

    def __len__(self) -> int:
        return self.info.frames

    def frame(self, row: int) -> Image:
        """Returns the source frame of this row. Shared with other callers: do not write into the array."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._frames.frame(row + self.info.first_frame)

    def segment_frames(self, number: int) -> Iterator[Image]:
        """Yields the stored frames of one segment, decoded now and not cached. Raises Damaged.

        The segment starts at stored frame number * SEGMENT_FRAMES; row 0 is the stored frame info.first_frame.
        """
        yield from _decode(*_segment_file(self.path, self.info.stored, number))

    def usable(self, row: int) -> bool:
        """Returns whether the row has a face that can be replaced."""
        return bool(self.faces.usable[row])

    def box(self, row: int) -> Box:
        """Returns the face box in whole pixels."""
        return Box(*(int(v) for v in self.faces.boxes[row]))

    def crop_box(self, row: int) -> Box:
        """Returns the square box that the mask covers."""
        return Box(*(int(v) for v in self.faces.crop_boxes[row]))

    def paste_box(self, row: int) -> Box | FloatBox:
        """Returns the box that the square face of a renderer is cut from and pasted to: the face box, with sub-pixel
        precision where the bundle has it.
        """
        if self.faces.float_boxes is None:
            return self.box(row)
        return FloatBox(*(float(v) for v in self.faces.float_boxes[row]))

    def landmarks(self, row: int) -> Points:
        """Returns the [468, 2] face mesh in frame pixels."""
        points: Points = self.faces.landmarks[row]
        return points

    def mask(self, row: int) -> Mask:
        """Reads the feathered blend mask over the crop box of the row, [S, S] uint8. Raises Damaged."""
        path = self.path / "masks" / f"{row:08d}.png"
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        side = self.crop_box(row).width
        if mask is None or mask.shape != (side, side):
            raise damaged(self.path, f"mask of row {row} is missing or not {side} x {side}")
        return np.asarray(mask, np.uint8)

    @property
    def nbytes(self) -> int:
        """Memory held now, for a cache that is bounded by bytes."""
        return self._frames.nbytes + self.faces.landmarks.nbytes


class _SegmentCache:
    """LRU cache of decoded segments. At least one segment always stays. Thread-safe."""

    def __init__(self, path: Path, frames: int, limit_bytes: int) -> None:
        self._path = path
        self._count = frames
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._segments: OrderedDict[int, list[Image]] = OrderedDict()
        self.nbytes = 0

    def frame(self, index: int) -> Image:
        number, offset = divmod(index, SEGMENT_FRAMES)
        with self._lock:
            if number not in self._segments:
                self._load(number)
            self._segments.move_to_end(number)
            return self._segments[number][offset]

    def _load(self, number: int) -> None:
        images = read_segment(*_segment_file(self._path, self._count, number))
        self._segments[number] = images
        self.nbytes += sum(image.nbytes for image in images)
        while self.nbytes > self._limit and len(self._segments) > 1:
            _, evicted = self._segments.popitem(last=False)
            self.nbytes -= sum(image.nbytes for image in evicted)


def read_segment(path: Path, expected: int) -> list[Image]:
    """Returns all frames of one segment file. Raises Damaged unless the file holds exactly `expected` frames."""
    return list(_decode(path, expected))


def _segment_file(path: Path, count: int, number: int) -> tuple[Path, int]:
    """Returns (file, number of frames) of one segment of a bundle with `count` stored frames."""
    return path / "frames" / f"{number:05d}.mp4", min(SEGMENT_FRAMES, count - number * SEGMENT_FRAMES)


def _decode(path: Path, expected: int) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count = 0
    try:
        while count <= expected:
            ok, image = capture.read()
            if not ok:
                break
            count += 1
            yield np.asarray(image, np.uint8)
    finally:
        capture.release()
    if count != expected:
        raise damaged(path.parent.parent, f"{path.name} holds {count} frames, not {expected}")
