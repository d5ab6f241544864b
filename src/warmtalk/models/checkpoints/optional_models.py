"""Optional networks that look at the source: which libraries and files each needs, and whether they are here."""

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
    install: str = ""
    """Command that installs them."""
    files: tuple[WeightFile, ...] = ()


RTMLIB = "pip install onnxruntime && pip install --no-deps rtmlib==0.0.16"
ALIGNMENT = "pip install 'warmtalk[full]' && pip install --no-deps face-alignment==1.5.0"
_OTHER_NAMES = {optional_weights.FAN.path: "face-alignment/2DFAN4-11f355bf06.pth.tar"}
"""The same network as face-alignment 1.5 itself keeps it, in torch's cache: as good as the file that is fetched."""
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
"""The best first. MuseTalk was trained on boxes of DWPose's points; face-alignment's points follow the same
annotations, and see faces that the mesh does not; the mesh's are the steadiest, but lie on another outline."""
PARSERS = (BISENET, MESH)
"""The best first: a parsing network knows hair, hands and collars, the mesh only where the face would be."""


def check(kit: OptionalModel, models_dir: Path) -> list[Path]:
    """Its files. Raises NotReady that says what is missing and the command that brings it."""
    modules = [module for module in kit.modules if importlib.util.find_spec(module) is None]
    found = [_file(models_dir, extra) for extra in kit.files]
    files = [str(path) for path in found if not path.is_file()]
    if modules or files:
        commands = [kit.install] * bool(modules) + [f"warmtalk weights fetch {kit.name}"] * bool(files)
        raise NotReady(f"{kit.name} needs {', '.join(modules + files)}", f"Run: {' && '.join(commands)}")
    return found


def choose(wanted: str, kits: tuple[OptionalModel, ...], models_dir: Path, key: str) -> OptionalModel:
    """The kit of that name; the best that is ready for "auto".

    Raises NotReady when it is not ready, InvalidInput when there is none of that name: `key` is the configuration's.
    """
    if wanted == "auto":
        return next(kit for kit in kits if _ready(kit, models_dir))
    for kit in kits:
        if kit.name == wanted:
            check(kit, models_dir)
            return kit
    raise InvalidInput(f"{key} is {wanted!r}", f"Use auto, {', '.join(kit.name for kit in reversed(kits))}", field=key)


def _ready(kit: OptionalModel, models_dir: Path) -> bool:
    try:
        check(kit, models_dir)
    except NotReady:
        return False
    return True


def _file(models_dir: Path, extra: WeightFile) -> Path:
    other = models_dir / _OTHER_NAMES.get(extra.path, extra.path)
    return other if other.is_file() else models_dir / extra.path
