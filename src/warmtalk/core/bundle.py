"""An avatar on the shared volume: `avatars/<avatar_id>/`.

    avatar.json           what it is and how it was made (AvatarInfo)
    frames/00000.mp4 ...  the source frames once, SEGMENT_FRAMES a file, so that any frame is found without seeking
    faces.safetensors     boxes [n,4] int32, crop_boxes [n,4] int32, landmarks [n,468,2] float32, usable [n] uint8,
                          perhaps places [n,4] float32 (Faces)
    latents.safetensors   latents [n,8,32,32] float16, only when prepared for MuseTalk (Latents)
    masks/00000000.png    blend mask of each usable row, S x S uint8, S the side of its crop box
    report.json           how good the footage is, and what was seen in each frame, for people
    contact_sheet.png     the same as a picture

Written to a folder beside it and renamed into place, so a reader never sees half of one. No pickle.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import load_file, save

from warmtalk.core.errors import Damaged
from warmtalk.core.types import Box, FloatBox, Image, Mask, Points

SCHEMA = 1
SEGMENT_FRAMES = 50
_STORED_NAMES = {"float_boxes": "places"}
"""Field of FaceTable -> tensor of faces.safetensors, where the names differ."""
_FIELDS = {stored: name for name, stored in _STORED_NAMES.items()}


@dataclass(frozen=True, slots=True)
class AvatarInfo:
    """avatar.json. `fps` is a fraction as text ("25", "30000/1001")."""

    avatar_id: str
    source_name: str
    source_sha256: str
    fps: str
    width: int
    height: int
    frames: int
    renderers: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter of the build (bbox_shift, extra_margin, mask ...), as given to it."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what built it."""
    created: str = ""
    """RFC 3339, UTC."""
    usable_frames: int = 0
    first_frame: int = 0
    """The stored frame that is row 0; those before, and those after the last row, are not played."""
    stored_frames: int = 0
    """In frames/; 0: as many as there are rows."""
    bbox_shift_used: int = 0
    """Pixels; what stands for params["bbox_shift"] where that is None."""
    schema: int = SCHEMA

    @property
    def rate(self) -> Fraction:
        return Fraction(self.fps)

    @property
    def stored(self) -> int:
        """Frames in frames/, the rows and those that are not played."""
        return self.stored_frames or self.frames


@dataclass(frozen=True, slots=True)
class FaceTable:
    """faces.safetensors: one row per source frame; rows that are not usable hold zeros."""

    boxes: npt.NDArray[np.int32]
    """[n, 4] face box: what a renderer's square face is stretched over."""
    crop_boxes: npt.NDArray[np.int32]
    """[n, 4] square box around it: what the mask covers; may leave the frame on any side."""
    landmarks: npt.NDArray[np.float32]
    """[n, 468, 2] face mesh in frame pixels."""
    usable: npt.NDArray[np.uint8]
    """[n] 1 where the row has a face to draw on."""
    float_boxes: npt.NDArray[np.float32] | None = None
    """[n, 4] smoothed face boxes with sub-pixel precision; `boxes` are the nearest whole pixels. None where `boxes` are
    exact, as in avatars of the reference and of older versions. Stored as "places"."""

    def __post_init__(self) -> None:
        n = len(self.usable)
        shapes = (self.boxes.shape, self.crop_boxes.shape, self.landmarks.shape)
        if shapes != ((n, 4), (n, 4), (n, 468, 2)) or (
            self.float_boxes is not None and self.float_boxes.shape != (n, 4)
        ):
            raise ValueError(f"faces do not fit together: {shapes} for {n} rows")


@dataclass(frozen=True, slots=True)
class Latents:
    """latents.safetensors: what MuseTalk knows of each row; zeros where the row is not usable."""

    values: npt.NDArray[np.float16]
    """[n, 8, 32, 32]: the VAE's latents of the face with its lower half black, then of the whole face."""
    vae: str
    """Tells the VAE that made them; no other can read them. "" where it is not known."""
    version: str
    """Version of MuseTalk that the boxes were made for: "v15" or "v1"."""

    def __post_init__(self) -> None:
        if self.values.shape[1:] != (8, 32, 32):
            raise ValueError(f"latents are [n, 8, 32, 32], not {self.values.shape}")


class Bundle:
    """A finished avatar, opened for reading. Thread-safe.

    Raises Damaged when a file is missing, unreadable or does not fit the others.
    """

    def __init__(self, path: Path, *, cache_bytes: int = 512 << 20) -> None:
        self.path = path
        self.info = read_info(path)
        self.faces = read_faces(path)
        info = self.info
        if len(self.faces.usable) != info.frames:
            raise _damaged(path, f"{len(self.faces.usable)} faces for {info.frames} frames")
        if info.first_frame < 0 or info.first_frame + info.frames > info.stored:
            raise _damaged(path, f"frames {info.first_frame} and {info.frames} on of {info.stored}")
        self._frames = _SegmentCache(path, info.stored, cache_bytes)

    def __len__(self) -> int:
        return self.info.frames

    def frame(self, row: int) -> Image:
        """Source frame of this row. Shared with other callers: do not write into it."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._frames.frame(row + self.info.first_frame)

    def segment_frames(self, number: int) -> Iterator[Image]:
        """The stored frames from number * SEGMENT_FRAMES on, decoded now and not kept; row 0 is the stored frame
        info.first_frame. Raises Damaged.
        """
        yield from _decode(*_segment_file(self.path, self.info.stored, number))

    def usable(self, row: int) -> bool:
        return bool(self.faces.usable[row])

    def box(self, row: int) -> Box:
        return Box(*(int(v) for v in self.faces.boxes[row]))

    def crop_box(self, row: int) -> Box:
        return Box(*(int(v) for v in self.faces.crop_boxes[row]))

    def paste_box(self, row: int) -> Box | FloatBox:
        """What the square face of a renderer is cut from and pasted on: the box, to parts of a pixel where known."""
        if self.faces.float_boxes is None:
            return self.box(row)
        return FloatBox(*(float(v) for v in self.faces.float_boxes[row]))

    def landmarks(self, row: int) -> Points:
        points: Points = self.faces.landmarks[row]
        return points

    def mask(self, row: int) -> Mask:
        """Feathered blend mask over the row's crop box, [S, S] uint8."""
        path = self.path / "masks" / f"{row:08d}.png"
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        side = self.crop_box(row).width
        if mask is None or mask.shape != (side, side):
            raise _damaged(self.path, f"mask of row {row} is missing or not {side} x {side}")
        return np.asarray(mask, np.uint8)

    @property
    def nbytes(self) -> int:
        """Memory held now, for a cache that is bounded by bytes."""
        return self._frames.nbytes + self.faces.landmarks.nbytes


class _SegmentCache:
    """Decoded segments, least recently used out first. At least one segment is always kept."""

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
            _, old = self._segments.popitem(last=False)
            self.nbytes -= sum(image.nbytes for image in old)


def _segment_file(path: Path, count: int, number: int) -> tuple[Path, int]:
    """(file, frames in it) of one segment of a bundle of `count` frames."""
    return path / "frames" / f"{number:05d}.mp4", min(SEGMENT_FRAMES, count - number * SEGMENT_FRAMES)


def read_segment(path: Path, expected: int) -> list[Image]:
    """All frames of one segment file. Raises Damaged unless there are exactly `expected`."""
    return list(_decode(path, expected))


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
        raise _damaged(path.parent.parent, f"{path.name} holds {count} frames, not {expected}")


def read_info(path: Path) -> AvatarInfo:
    try:
        raw = json.loads((path / "avatar.json").read_text("utf-8"))
        if raw["schema"] != SCHEMA:
            raise _damaged(path, f"it has schema {raw['schema']}, this version reads {SCHEMA}")
        return AvatarInfo(**{**raw, "renderers": tuple(raw["renderers"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"avatar.json cannot be read ({error})") from error


def read_faces(path: Path) -> FaceTable:
    try:
        arrays = load_file(path / "faces.safetensors")
        return FaceTable(**{_FIELDS.get(name, name): array for name, array in arrays.items()})
    except Exception as error:  # safetensors raises its own type, OSError or ValueError by cause
        raise _damaged(path, f"faces.safetensors cannot be read ({error})") from error


def read_latents(path: Path) -> Latents:
    """Of the bundle at `path`. Raises Damaged."""
    file = path / "latents.safetensors"
    try:
        with safe_open(file, "np") as opened:
            about = opened.metadata()
            return Latents(opened.get_tensor("latents"), about["vae"], about["version"])
    except Exception as error:  # safetensors raises its own type, OSError or ValueError by cause
        raise _damaged(path, f"latents.safetensors cannot be read ({error})") from error


def write_latents(path: Path, latents: Latents) -> None:
    values = np.ascontiguousarray(latents.values, np.float16)
    about = {"vae": latents.vae, "version": latents.version}
    (path / "latents.safetensors").write_bytes(save({"latents": values}, about))


def write_info(path: Path, info: AvatarInfo) -> None:
    write_json(path / "avatar.json", asdict(info))


def write_faces(path: Path, faces: FaceTable) -> None:
    arrays = {_STORED_NAMES.get(name, name): getattr(faces, name) for name in FaceTable.__slots__}
    known = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    # Not save_file: what it writes only its own user can read, and a volume is shared.
    (path / "faces.safetensors").write_bytes(save(known))


def write_mask(path: Path, row: int, mask: Mask) -> None:
    """`path` is the bundle; its `masks` folder must be there."""
    name = path / "masks" / f"{row:08d}.png"
    if not cv2.imwrite(str(name), mask):
        raise OSError(f"could not write {name}")


def write_json(path: Path, value: object) -> None:
    """Atomic: a reader sees the old file or the new one, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _damaged(path: Path, why: str) -> Damaged:
    return Damaged(
        f"avatar {path.name!r} is damaged: {why}",
        f"Build it again: warmtalk avatar delete {path.name}, then warmtalk avatar create {path.name} SOURCE",
    )
