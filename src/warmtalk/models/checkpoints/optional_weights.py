"""Weights that single features need, one file each, in the layout of MuseTalk's own download script. No torch.

    dwpose/            dw-ll_ucoco_384.onnx                         face boxes as the reference program finds them
    face-parse-bisent/ 79999_iter.pth  resnet18-5c106cde.pth        masks as the reference program cuts them
    face-alignment/    s3fd-619a316812.pth  2DFAN4-cd938726ad.zip   faces where the embedded finder sees none
    gfpgan/            GFPGANv1.4.pth                               sharper faces

Sizes and sha256 are those that several public projects pin, independently of each other.
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
    """What the command line calls it."""
    path: str
    """In the folder of models."""
    url: str
    """Where it comes from; one that starts with a slash is on the hub or its mirror."""
    size: int
    """Bytes."""
    sha256: str
    enables: str
    """What does not work without it."""

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
    "nothing here; the reference program opens it before 79999_iter.pth",
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
GROUPS = tuple(dict.fromkeys(extra.group for extra in WEIGHT_FILES))


def of_groups(names: list[str]) -> list[WeightFile]:
    return [extra for extra in WEIGHT_FILES if extra.group in names]


def find(models_dir: Path, extra: WeightFile) -> Path:
    """Its file. Raises NotReady with the command that fetches it. What is in the file is not looked at."""
    path = models_dir / extra.path
    if not path.is_file():
        raise NotReady(f"there is no {path}", f"Run: warmtalk weights fetch {extra.group}")
    return path


def check(path: Path, extra: WeightFile) -> None:
    """Raises Damaged when it is not the published file. Reads it all: half a second for the largest."""
    size = path.stat().st_size
    if size == extra.size:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest == extra.sha256:
            return
        why = f"has sha256 {digest[:16]}..., the published one {extra.sha256[:16]}..."
    else:
        why = f"has {size} bytes, the published one {extra.size}"
    raise Damaged(f"{path} {why}", f"Delete it, then run: warmtalk weights fetch {extra.group}")


def below(folder: Path, extra: WeightFile) -> Iterator[Path]:
    """Files of that name anywhere in a folder, such as torch's cache (~/.cache/torch/hub/checkpoints)."""
    yield from sorted(path for path in folder.rglob(extra.name) if path.is_file())
