"""File formats of an avatar bundle: dataclasses for the files, and functions for reading and writing. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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
from warmtalk.core.types import Mask

SCHEMA = 1
"""Version of avatar.json."""
_STORED_NAMES = {"float_boxes": "places"}
"""Field of FaceTable -> tensor of faces.safetensors, where the names differ."""
_FIELDS = {stored: name for name, stored in _STORED_NAMES.items()}
_LATENTS_FILE = "latents.safetensors"


@dataclass(frozen=True, slots=True)
class AvatarInfo:
    """avatar.json: description and build parameters of an avatar."""

    avatar_id: str
    source_name: str
    source_sha256: str
    fps: str
    """Frame rate as the text of a fraction ("25", "30000/1001")."""
    width: int
    height: int
    frames: int
    """Number of rows: frames that are played."""
    renderers: tuple[str, ...]
    """Names of the renderers with all required files in the bundle."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter of the build (bbox_shift, extra_margin, mask ...), as given to the build."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the tools and libraries of the build."""
    created: str = ""
    """RFC 3339, UTC."""
    usable_frames: int = 0
    """Number of rows with a usable face."""
    first_frame: int = 0
    """Stored frame of row 0. Stored frames before row 0 and after the last row are not played."""
    stored_frames: int = 0
    """Number of frames in frames/; 0 means as many as rows."""
    bbox_shift_used: int = 0
    """Pixels; the shift of the build where params["bbox_shift"] is None."""
    schema: int = SCHEMA

    @property
    def rate(self) -> Fraction:
        """Frame rate in frames per second."""
        return Fraction(self.fps)

    @property
    def stored(self) -> int:
        """Number of frames in frames/, including frames that are not played."""
        return self.stored_frames or self.frames


@dataclass(frozen=True, slots=True)
class FaceTable:
    """faces.safetensors: one entry per row. Rows that are not usable hold zeros."""

    boxes: npt.NDArray[np.int32]
    """[n, 4] face boxes: the square face of a renderer is stretched over the box."""
    crop_boxes: npt.NDArray[np.int32]
    """[n, 4] square boxes around the face boxes, covered by the mask; may leave the frame on any side."""
    landmarks: npt.NDArray[np.float32]
    """[n, 468, 2] face mesh in frame pixels."""
    usable: npt.NDArray[np.uint8]
    """[n] 1 where the row has a face that can be replaced."""
    float_boxes: npt.NDArray[np.float32] | None = None
    """[n, 4] smoothed face boxes with sub-pixel precision; `boxes` are the nearest whole pixels. None where `boxes` are
    exact, as in avatars of the reference and of older versions. Stored as "places"."""

    def __post_init__(self) -> None:
        n = len(self.usable)
        shapes = (self.boxes.shape, self.crop_boxes.shape, self.landmarks.shape)
        float_boxes_fit = self.float_boxes is None or self.float_boxes.shape == (n, 4)
        if shapes != ((n, 4), (n, 4), (n, 468, 2)) or not float_boxes_fit:
            raise ValueError(f"shapes of the face table do not agree: {shapes} for {n} rows")


@dataclass(frozen=True, slots=True)
class Latents:
    """latents.safetensors: latents of each row for MuseTalk; zeros where the row is not usable."""

    values: npt.NDArray[np.float16]
    """[n, 8, 32, 32]: VAE latents of the face with its lower half black, then of the whole face."""
    vae: str
    """Fingerprint of the VAE of the latents. No other VAE can decode the latents. "" when unknown."""
    version: str
    """Version of MuseTalk for which the boxes were made: "v15" or "v1"."""

    def __post_init__(self) -> None:
        if self.values.shape[1:] != (8, 32, 32):
            raise ValueError(f"latents are [n, 8, 32, 32], not {self.values.shape}")


def read_info(path: Path) -> AvatarInfo:
    """Reads avatar.json of the bundle at `path`. Raises Damaged."""
    try:
        raw = json.loads((path / "avatar.json").read_text("utf-8"))
        if raw["schema"] != SCHEMA:
            raise damaged(path, f"avatar.json has schema {raw['schema']}, this version reads {SCHEMA}")
        return AvatarInfo(**{**raw, "renderers": tuple(raw["renderers"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"avatar.json cannot be read ({error})") from error


def read_faces(path: Path) -> FaceTable:
    """Reads faces.safetensors of the bundle at `path`. Raises Damaged."""
    try:
        arrays = load_file(path / "faces.safetensors")
        return FaceTable(**{_FIELDS.get(name, name): array for name, array in arrays.items()})
    except Exception as error:  # safetensors raises its own type, OSError or ValueError, depending on the cause
        raise damaged(path, f"faces.safetensors cannot be read ({error})") from error


def has_latents(path: Path) -> bool:
    """Returns whether the bundle at `path` has latents."""
    return (path / _LATENTS_FILE).is_file()


def read_latents(path: Path) -> Latents:
    """Reads latents.safetensors of the bundle at `path`. Raises Damaged."""
    file = path / _LATENTS_FILE
    try:
        with safe_open(file, "np") as opened:
            metadata = opened.metadata()
            return Latents(opened.get_tensor("latents"), metadata["vae"], metadata["version"])
    except Exception as error:  # safetensors raises its own type, OSError or ValueError, depending on the cause
        raise damaged(path, f"{_LATENTS_FILE} cannot be read ({error})") from error


def write_info(path: Path, info: AvatarInfo) -> None:
    """Writes avatar.json of the bundle at `path`."""
    write_json(path / "avatar.json", asdict(info))


def write_faces(path: Path, faces: FaceTable) -> None:
    """Writes faces.safetensors of the bundle at `path`."""
    fields = {_STORED_NAMES.get(name, name): getattr(faces, name) for name in FaceTable.__slots__}
    arrays = {name: np.ascontiguousarray(array) for name, array in fields.items() if array is not None}
    # save_file would create a file that only its owner can read; a volume is shared.
    (path / "faces.safetensors").write_bytes(save(arrays))


def write_latents(path: Path, latents: Latents) -> None:
    """Writes latents.safetensors of the bundle at `path`."""
    values = np.ascontiguousarray(latents.values, np.float16)
    metadata = {"vae": latents.vae, "version": latents.version}
    (path / _LATENTS_FILE).write_bytes(save({"latents": values}, metadata))


def write_mask(path: Path, row: int, mask: Mask) -> None:
    """Writes the blend mask of one row. `path` is the bundle, which must have a `masks` folder. Raises OSError."""
    name = path / "masks" / f"{row:08d}.png"
    if not cv2.imwrite(str(name), mask):
        raise OSError(f"could not write {name}")


def write_json(path: Path, value: object) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one, also after a power failure."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def damaged(path: Path, reason: str) -> Damaged:
    """Returns the error for a bundle that cannot be read."""
    return Damaged(
        f"avatar {path.name!r} is damaged: {reason}",
        f"Build it again: warmtalk avatar delete {path.name}, then warmtalk avatar create {path.name} SOURCE",
    )
