"""Reads and writes avatar folders of MuseTalk's realtime program (results/v15/avatars/ID). Input is not trusted.

    full_imgs/00000000.png ...  mask/00000000.png ...  coords.pkl  mask_coords.pkl  latents.pt  avator_info.json

The program stores the cycle mirrored: 2n entries, x + reversed(x). Other tools store n entries. `read` accepts both.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import has_latents, read_latents
from warmtalk.core.errors import BadMedia, NotReady
from warmtalk.core.types import Box, cycle_row

_MAX_PICKLE_BYTES = 64 << 20
"""The boxes of a day of video are smaller."""
_NUMBER_TYPES = ("i4", "i8", "u4", "u8", "f4", "f8")


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceAvatar:
    """One avatar folder with n rows, from n or 2n entries."""

    name: str
    version: str
    bbox_shift: int
    boxes: list[Box | None]
    """None where the program found no face."""
    crop_boxes: list[Box]
    latents: npt.NDArray[np.float16]
    """[n, 8, 32, 32], zeros for rows without a box."""
    images: list[Path]
    """PNG files, not opened yet: decode untrusted files with media.png_decode."""
    masks: list[Path]
    """PNG files of masks, [S, S] over the crop box; not opened yet."""


def read(folder: Path) -> ReferenceAvatar:
    """Returns the avatar of a folder. Raises BadMedia with the file that is missing, broken or of another length."""
    info = _info(folder)
    boxes = [_box(entry) for entry in _entries(folder / "coords.pkl")]
    squares = [_box(entry) or Box(0, 0, 0, 0) for entry in _entries(folder / "mask_coords.pkl")]
    images, masks = (_numbered_images(folder / name) for name in ("full_imgs", "mask"))
    latents = _latents(folder / "latents.pt", [box is not None for box in boxes])
    counts = {len(boxes), len(squares), len(images), len(masks), len(latents)}
    if len(counts) != 1 or not boxes:
        raise BadMedia(
            f"the files of {folder} do not fit: {len(boxes)} boxes, {len(squares)} crop boxes, {len(images)} images,"
            f" {len(masks)} masks, {len(latents)} latents",
            "Copy the folder again",
        )
    n = len(boxes) // 2 if _mirrored(boxes, latents, images) else len(boxes)
    return ReferenceAvatar(
        name=str(info.get("avatar_id", folder.name)),
        version="v1" if info.get("version") == "v1" else "v15",
        bbox_shift=int(info.get("bbox_shift") or 0),
        boxes=boxes[:n],
        crop_boxes=squares[:n],
        latents=latents[:n],
        images=images[:n],
        masks=masks[:n],
    )


def write(bundle: Bundle, folder: Path, *, bbox_shift: int = 0) -> None:
    """Writes a bundle as such a folder.

    Raises NotReady for a bundle without latents or with rows without a face, Damaged, OSError.
    """
    if not has_latents(bundle.path):
        raise NotReady(
            f"avatar {bundle.info.avatar_id!r} is not prepared for MuseTalk", "Run: warmtalk avatar create --replace"
        )
    missing = [row for row in range(len(bundle)) if not bundle.usable(row)]
    if missing:
        raise NotReady(
            f"avatar {bundle.info.avatar_id!r} has {len(missing)} frames without a face, the first {missing[0]};"
            " MuseTalk's folders cannot hold such frames",
            "Cut the source so that the face shows in every frame",
        )
    latents = read_latents(bundle.path)
    cycle = [cycle_row(index, len(bundle)) for index in range(2 * len(bundle))]
    for name in ("full_imgs", "mask"):
        (folder / name).mkdir(parents=True)
    for index, row in enumerate(cycle):
        _write_image(folder / "full_imgs" / f"{index:08d}.png", bundle.frame(row))
        _write_image(folder / "mask" / f"{index:08d}.png", bundle.mask(row))
    rows = [torch.from_numpy(value)[None] for value in latents.values]
    torch.save([rows[row] for row in cycle], folder / "latents.pt")
    _write_boxes(folder / "coords.pkl", [bundle.box(row) for row in cycle])
    _write_boxes(folder / "mask_coords.pkl", [bundle.crop_box(row) for row in cycle])
    info = {
        "avatar_id": bundle.info.avatar_id,
        "video_path": bundle.info.source_name,
        "bbox_shift": bbox_shift,
        "version": latents.version,
    }
    (folder / "avator_info.json").write_text(json.dumps(info), "utf-8")


class _NumbersUnpickler(pickle.Unpickler):
    """Accepts lists, tuples and numbers, also of numpy. Refuses any other object before constructing the object."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _scalar
        raise pickle.UnpicklingError(f"the pickle holds {module}.{name}, which is no number")


def _dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype[Any]:
    if code not in _NUMBER_TYPES:
        raise pickle.UnpicklingError(f"the pickle holds numbers of type {code!r}")
    return np.dtype(code, align=bool(align), copy=True)


def _scalar(kind: np.dtype[Any], data: bytes) -> float:
    if not isinstance(kind, np.dtype) or not isinstance(data, bytes) or len(data) != kind.itemsize:
        raise pickle.UnpicklingError("the pickle holds a number of the wrong size")
    return float(np.frombuffer(data, kind)[0])


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _MAX_PICKLE_BYTES:
            raise BadMedia(f"{path} is larger than {_MAX_PICKLE_BYTES >> 20} MiB", "Copy the folder again")
        entries = _NumbersUnpickler(io.BytesIO(path.read_bytes())).load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise BadMedia(f"{path} cannot be read: {error}", "Copy the folder again") from error
    if not isinstance(entries, list):
        raise BadMedia(f"{path} holds no list", "Copy the folder again")
    return entries


def _box(entry: Any) -> Box | None:
    """Returns None for the placeholder (0.0, 0.0, 0.0, 0.0) of a frame without a face."""
    try:
        x1, y1, x2, y2 = (int(value) for value in entry)
        return Box(x1, y1, x2, y2) if (x1, y1, x2, y2) != (0, 0, 0, 0) else None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMedia(f"{entry!r:.80} is no box", "Copy the folder again") from error


def _latents(path: Path, present: Sequence[bool]) -> npt.NDArray[np.float16]:
    """Returns one latent per entry; zeros for frames without a face, left out by the offline program."""
    try:
        latents = torch.load(path, map_location="cpu", weights_only=True)
        values = torch.cat([latent.reshape(1, 8, 32, 32) for latent in latents]).half().numpy()
    except (OSError, RuntimeError, EOFError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise BadMedia(f"{path} cannot be read: {str(error).splitlines()[0]}", "Copy the folder again") from error
    if len(values) == len(present) or len(values) != sum(present):
        return np.asarray(values, np.float16)
    aligned = np.zeros((len(present), 8, 32, 32), np.float16)
    aligned[np.flatnonzero(present)] = values
    return aligned


def _mirrored(boxes: list[Box | None], latents: npt.NDArray[np.float16], images: list[Path]) -> bool:
    """Returns True when the second half is the first half reversed: then the first half holds the whole cycle."""
    if len(boxes) % 2 or boxes != boxes[::-1] or not np.array_equal(latents, latents[::-1]):
        return False
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(images[: len(images) // 2], images[::-1], strict=False))


def _numbered_images(folder: Path) -> list[Path]:
    """Returns the images in the order of their numbers, as the program reads them; skips names without a number."""
    by_number = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdecimal()}
    return [by_number[number] for number in sorted(by_number)]


def _info(folder: Path) -> dict[str, Any]:
    for name in ("avator_info.json", "avatar_info.json"):
        try:
            info = json.loads((folder / name).read_text("utf-8"))
            return info if isinstance(info, dict) else {}
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise BadMedia(f"{folder / name} cannot be read: {error}", "Copy the folder again") from error
    raise BadMedia(f"{folder} is no avatar folder of MuseTalk: it has no avator_info.json", "Check the path")


def _write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"could not write {path}")


def _write_boxes(path: Path, boxes: list[Box]) -> None:
    path.write_bytes(pickle.dumps([list(box.as_tuple()) for box in boxes], protocol=4))
