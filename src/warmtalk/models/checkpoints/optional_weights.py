"""Weights of single features, one file each, in the layout of MuseTalk's own download script. No torch.

    dwpose/            dw-ll_ucoco_384.onnx                         face boxes as in the reference program
    face-parse-bisent/ 79999_iter.pth  resnet18-5c106cde.pth        masks as in the reference program
    face-alignment/    s3fd-619a316812.pth  2DFAN4-cd938726ad.zip   faces missed by the embedded detector
    gfpgan/            GFPGANv1.4.pth                               sharper faces

Several public projects pin the same sizes and sha256, independently of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warmtalk.core.errors import Damaged, NotReady

HUB = "https://huggingface.co"
_GITHUB = "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/"
_FAN = "https://www.adrianbulat.com/downloads/python-fan/"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file."""

    group: str
    """Name on the command line."""
    path: str
    """Path in the folder of models."""
    url: str
    """Source; a leading slash means the hub or a mirror of the hub."""
    size: int
    """Bytes."""
    sha256: str
    enables: str
    """Feature of the file, as `weights verify` reports."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


DWPOSE = WeightFile(
    "dwpose",
    "dwpose/dw-ll_ucoco_384.onnx",
    "/yzd-v/DWPose/resolve/main/dw-ll_ucoco_384.onnx",
    134_399_116,
    "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
    "preparing avatars with the reference program's landmarks (DWPose)",
)
BISENET = WeightFile(
    "bisenet",
    "face-parse-bisent/79999_iter.pth",
    "/ManyOtherFunctions/face-parse-bisent/resolve/main/79999_iter.pth",
    53_289_463,
    "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
    "preparing avatars with the reference program's masks (face parsing)",
)
BISENET_START = WeightFile(
    "bisenet",
    "face-parse-bisent/resnet18-5c106cde.pth",
    "https://download.pytorch.org/models/resnet18-5c106cde.pth",
    46_827_520,
    "5c106cde386e87d4033832f2996f5493238eda96ccf559d1d62760c4de0613f8",
    "nothing here; the reference program loads this file before 79999_iter.pth",
)
S3FD = WeightFile(
    "face-alignment",
    "face-alignment/s3fd-619a316812.pth",
    f"{_FAN}s3fd-619a316812.pth",
    89_843_225,
    "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
    "preparing avatars with the reference program's detector (S3FD)",
)
FAN = WeightFile(
    "face-alignment",
    "face-alignment/2DFAN4-cd938726ad.zip",
    f"{_FAN}2DFAN4-cd938726ad.zip",
    96_316_515,
    "cd938726adb1f15f361263cce2db9cb820c42585fa8796ec72ce19107f369a46",
    "preparing avatars with the landmarks of face-alignment (2DFAN4)",
)
GFPGAN = WeightFile(
    "gfpgan",
    "gfpgan/GFPGANv1.4.pth",
    f"{_GITHUB}GFPGANv1.4.pth",
    348_632_874,
    "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
    "sharper faces (GFPGAN)",
)
WEIGHT_FILES = (DWPOSE, BISENET, BISENET_START, S3FD, FAN, GFPGAN)
GROUPS = tuple(dict.fromkeys(weight_file.group for weight_file in WEIGHT_FILES))


def files_of_groups(names: list[str]) -> list[WeightFile]:
    """Returns the files of the named groups."""
    return [weight_file for weight_file in WEIGHT_FILES if weight_file.group in names]


def find(models_dir: Path, weight_file: WeightFile) -> Path:
    """Returns the path of a file, without a look at the contents. Raises NotReady with the fetch command."""
    path = models_dir / weight_file.path
    if not path.is_file():
        raise NotReady(f"there is no {path}", f"Run: warmtalk weights fetch {weight_file.group}")
    return path


def check_contents(path: Path, weight_file: WeightFile) -> None:
    """Raises Damaged when size or sha256 differ from the published file. Takes half a second at most."""
    size = path.stat().st_size
    if size == weight_file.size:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == weight_file.sha256:
            return
        reason = f"has sha256 {digest[:16]}..., the published file {weight_file.sha256[:16]}..."
    else:
        reason = f"has {size} bytes, the published file {weight_file.size}"
    raise Damaged(f"{path} {reason}", f"Delete the file, then run: warmtalk weights fetch {weight_file.group}")


def find_by_name(folder: Path, weight_file: WeightFile) -> Iterator[Path]:
    """Yields files of that name below a folder such as torch's cache (~/.cache/torch/hub/checkpoints)."""
    yield from sorted(path for path in folder.rglob(weight_file.name) if path.is_file())
