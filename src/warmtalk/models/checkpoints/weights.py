"""Where MuseTalk's published weights lie in a folder of models, and what is wrong when they do not. No torch.

    musetalkV15/   musetalk.json  unet.pth (or unet.safetensors)                      MuseTalk v1.5
    musetalk/      musetalk.json  pytorch_model.bin (or unet.safetensors)             MuseTalk v1
    sd-vae/        config.json    diffusion_pytorch_model.bin (or .safetensors)       stabilityai/sd-vae-ft-mse
    whisper/       config.json    pytorch_model.bin (or model.safetensors)            openai/whisper-tiny

A file is also found one or two folders deeper, where downloads without --local-dir leave it
(musetalkV15/musetalkV15/unet.pth), and under the folder names of the hub (sd-vae-ft-mse, whisper-tiny).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from warmtalk.core.errors import InvalidInput, NotReady

Version = Literal["v15", "v1"]
_FETCH = "Run: warmtalk weights fetch"


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """One network: a file of tensors and the JSON file that describes it."""

    name: str
    folders: tuple[str, ...]
    """The published folder first, then other names it goes by."""
    files: tuple[str, ...]
    """Names of the file of tensors, the preferred first."""
    config: str
    repository: str
    """On the hub."""
    prefix: str
    """Folder in the repository, "" or ending in a slash."""
    fetched: str
    """The one of `files` that the repository has."""
    enables: str
    """What does not work without it."""


UNET_V15 = CheckpointPart(
    "MuseTalk v1.5",
    ("musetalkV15", "musetalk_v15"),
    ("unet.safetensors", "unet.pth"),
    "musetalk.json",
    "TMElyralab/MuseTalk",
    "musetalkV15/",
    "unet.pth",
    "renderer musetalk, version v15 (the default)",
)
UNET_V1 = CheckpointPart(
    "MuseTalk v1",
    ("musetalk",),
    ("unet.safetensors", "pytorch_model.bin"),
    "musetalk.json",
    "TMElyralab/MuseTalk",
    "musetalk/",
    "pytorch_model.bin",
    "renderer musetalk, version v1",
)
VAE = CheckpointPart(
    "image codec",
    ("sd-vae", "sd-vae-ft-mse"),
    ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "config.json",
    "stabilityai/sd-vae-ft-mse",
    "",
    "diffusion_pytorch_model.safetensors",
    "renderer musetalk, and preparing avatars for it",
)
WHISPER = CheckpointPart(
    "speech encoder",
    ("whisper", "whisper-tiny"),
    ("model.safetensors", "pytorch_model.bin"),
    "config.json",
    "openai/whisper-tiny",
    "",
    "model.safetensors",
    "renderer musetalk",
)
UNETS: dict[Version, CheckpointPart] = {"v15": UNET_V15, "v1": UNET_V1}


@dataclass(frozen=True, slots=True)
class FoundPart:
    """Files of one part."""

    part: CheckpointPart
    weights: Path
    config: Path


def unet_part(version: str) -> CheckpointPart:
    """Raises InvalidInput for a version that there is not."""
    for known, part in UNETS.items():
        if known == version:
            return part
    raise InvalidInput(f"there is no MuseTalk version {version!r}", "Use v15 or v1", field="version")


def find(models_dir: Path, part: CheckpointPart) -> FoundPart:
    """Raises NotReady that names the missing file and the command that fetches it."""
    for folder in _folders(models_dir, part):
        for name in part.files:
            weights, config = folder / name, folder / part.config
            if weights.is_file() and config.is_file():
                return FoundPart(part, weights, config)
    raise NotReady(_missing(models_dir, part), _FETCH)


def present(models_dir: Path, version: str = "v15") -> bool:
    """All that rendering with this version needs is there."""
    try:
        for part in (unet_part(version), VAE, WHISPER):
            find(models_dir, part)
    except NotReady:
        return False
    return True


def _folders(models_dir: Path, part: CheckpointPart) -> Iterator[Path]:
    for name in part.folders:
        folder = models_dir / name
        if folder.is_dir():
            yield folder
            yield from sorted(path for path in folder.glob("*/") if path.is_dir())
            yield from sorted(path for path in folder.glob("*/*/") if path.is_dir())


def _missing(models_dir: Path, part: CheckpointPart) -> str:
    if not models_dir.is_dir():
        return f"there is no folder of models at {models_dir}"
    home = models_dir / part.folders[0]
    seen = list(_folders(models_dir, part))
    if any((folder / part.config).is_file() for folder in seen):
        return f"{part.name}: {home} has {part.config}, but none of {', '.join(part.files)}{_wrong_name(seen, part)}"
    if any((folder / name).is_file() for folder in seen for name in part.files):
        return f"{part.name}: {home} has weights, but no {part.config}"
    return f"{part.name}: {home} has no {' or '.join(part.files)}{_other_version(models_dir, part)}"


def _wrong_name(folders: list[Path], part: CheckpointPart) -> str:
    for other in UNETS.values():
        for name in other.files:
            if name not in part.files and any((folder / name).is_file() for folder in folders):
                return f" ({name} is the file of {other.name})"
    return ""


def _other_version(models_dir: Path, part: CheckpointPart) -> str:
    for version, other in UNETS.items():
        if part in UNETS.values() and other is not part and any(_folders(models_dir, other)):
            return f" ({other.name} is there: it is version {version})"
    return ""
