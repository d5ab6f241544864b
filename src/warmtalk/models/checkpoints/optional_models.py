"""Optional networks for source video: required libraries, required files, and a check of both."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from warmtalk.core.errors import InvalidInput, NotReady
from warmtalk.models.checkpoints import optional_weights
from warmtalk.models.checkpoints.optional_weights import WeightFile


@dataclass(frozen=True, slots=True)
class OptionalModel:
    """One detector or parser."""

    name: str
    modules: tuple[str, ...] = ()
    """Imports of the network."""
    install: str = ""
    """Command to install the modules."""
    files: tuple[WeightFile, ...] = ()


RTMLIB = "pip install onnxruntime && pip install --no-deps rtmlib==0.0.16"
ALIGNMENT = "pip install 'warmtalk[full]' && pip install --no-deps face-alignment==1.5.0"
_ALTERNATIVE_PATHS = {optional_weights.FAN.path: "face-alignment/2DFAN4-11f355bf06.pth.tar"}
"""The same network in the format of face-alignment 1.5, from torch's cache: equal to the fetched file."""
MESH = OptionalModel("mesh")
DWPOSE = OptionalModel("dwpose", ("rtmlib", "onnxruntime"), RTMLIB, (optional_weights.DWPOSE,))
FACE_ALIGNMENT = OptionalModel(
    "face-alignment",
    ("face_alignment", "torch", "numba", "skimage"),
    ALIGNMENT,
    (optional_weights.S3FD, optional_weights.FAN),
)
BISENET = OptionalModel("bisenet", ("torch", "PIL"), "pip install 'torch>=2.13,<3' pillow", (optional_weights.BISENET,))
DETECTORS = (DWPOSE, FACE_ALIGNMENT, MESH)
"""Best first. MuseTalk was trained on boxes of DWPose's points. The points of face-alignment follow the same
annotations and exist for faces that the mesh misses. The mesh's points are the steadiest, on another outline."""
PARSERS = (BISENET, MESH)
"""Best first: a parsing network recognises hair, hands and collars, the mesh knows the outline of the face alone."""


def require(model: OptionalModel, models_dir: Path) -> list[Path]:
    """Returns the files of `model`. Raises NotReady with the missing modules and files, and the commands for both."""
    modules = [module for module in model.modules if importlib.util.find_spec(module) is None]
    paths = [_path(models_dir, weight_file) for weight_file in model.files]
    files = [str(path) for path in paths if not path.is_file()]
    if modules or files:
        commands = [model.install] * bool(modules) + [f"warmtalk weights fetch {model.name}"] * bool(files)
        raise NotReady(f"{model.name} needs {', '.join(modules + files)}", f"Run: {' && '.join(commands)}")
    return paths


def select(name: str, models: tuple[OptionalModel, ...], models_dir: Path, key: str) -> OptionalModel:
    """Returns the model of that name; for "auto" the first ready model of `models`.

    Raises NotReady when the named model is not ready, InvalidInput for an unknown name. `key` is the configuration key.
    """
    if name == "auto":
        return next(model for model in models if _is_ready(model, models_dir))
    for model in models:
        if model.name == name:
            require(model, models_dir)
            return model
    known = ", ".join(model.name for model in reversed(models))
    raise InvalidInput(f"{key} is {name!r}", f"Use auto, {known}", field=key)


def _is_ready(model: OptionalModel, models_dir: Path) -> bool:
    try:
        require(model, models_dir)
    except NotReady:
        return False
    return True


def _path(models_dir: Path, weight_file: WeightFile) -> Path:
    alternative = models_dir / _ALTERNATIVE_PATHS.get(weight_file.path, weight_file.path)
    return alternative if alternative.is_file() else models_dir / weight_file.path
