"""Locations of MuseTalk's published weights in a folder of models, with error messages for missing files. No torch.

    musetalkV15/   musetalk.json  unet.pth (or unet.safetensors)                      MuseTalk v1.5
    musetalk/      musetalk.json  pytorch_model.bin (or unet.safetensors)             MuseTalk v1
    sd-vae/        config.json    diffusion_pytorch_model.bin (or .safetensors)       stabilityai/sd-vae-ft-mse
    whisper/       config.json    pytorch_model.bin (or model.safetensors)            openai/whisper-tiny

The search includes one or two folders more, where downloads without --local-dir store files
(musetalkV15/musetalkV15/unet.pth), and the folder names of the hub (sd-vae-ft-mse, whisper-tiny). Beside Whisper's
config.json, preprocessor_config.json is read if present.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from warmtalk.core.errors import InvalidInput, NotReady

Version = Literal["v15", "v1"]
LIBRARIES = ("torch", "diffusers", "transformers")
"""Imports of MuseTalk's networks."""
_FETCH = "Run: warmtalk weights fetch"


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """One network: a file of tensors and a JSON file with the configuration."""

    name: str
    folders: tuple[str, ...]
    """The published folder first, then alternative names."""
    files: tuple[str, ...]
    """Names of the file of tensors, the preferred name first."""
    config: str
    repository: str
    """OWNER/NAME on the hub."""
    prefix: str
    """Folder in the repository, "" or ending in a slash."""
    fetched: str
    """Entry of `files` in the repository."""
    enables: str
    """Feature of the part, as `weights verify` reports."""


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
    """Returns the UNet of a version. Raises InvalidInput for an unknown version."""
    for known, part in UNETS.items():
        if known == version:
            return part
    raise InvalidInput(f"there is no MuseTalk version {version!r}", "Use v15 or v1", field="version")


def find(models_dir: Path, part: CheckpointPart) -> FoundPart:
    """Returns the files of a part. Raises NotReady with the missing file and the fetch command."""
    for folder in _folders(models_dir, part):
        for name in part.files:
            weights, config = folder / name, folder / part.config
            if weights.is_file() and config.is_file():
                return FoundPart(part, weights, config)
    raise NotReady(_missing(models_dir, part), _FETCH)


def present(models_dir: Path, version: str = "v15") -> bool:
    """Returns True when all weights for rendering with this version are present."""
    try:
        for part in (unet_part(version), VAE, WHISPER):
            find(models_dir, part)
    except NotReady:
        return False
    return True


def missing_libraries() -> list[str]:
    """Returns the entries of LIBRARIES without an installation."""
    return [module for module in LIBRARIES if find_spec(module) is None]


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
    folders = list(_folders(models_dir, part))
    if any((folder / part.config).is_file() for folder in folders):
        return f"{part.name}: {home} has {part.config}, but none of {', '.join(part.files)}{_wrong_name(folders, part)}"
    if any((folder / name).is_file() for folder in folders for name in part.files):
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
