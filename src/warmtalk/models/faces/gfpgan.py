"""GFPGAN v1.4: restoration of aligned faces with the published checkpoint, loaded by spandrel."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import Image

INSTALL_HINT = "Run: pip install 'warmtalk[enhance]' && pip install --no-deps spandrel==0.4.2"
_UNUSED_MODULE = "torchvision.transforms.functional"


class Gfpgan:
    """Restores a [512, 512, 3] uint8 BGR aligned face.

    Deterministic: the noise comes from the file and is not sampled for each frame. Use from one thread only. Takes
    about 1.5 GB, and one second per face on two cores.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        """`device` is auto, cpu or cuda. Raises NotReady without spandrel, Damaged when the file is not GFPGAN's."""
        self._device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self._model = _load(path).to(self._device).eval()

    def __call__(self, face: Image) -> Image:
        """Returns the restored face, same shape."""
        with torch.inference_mode():
            return self._restore(face)

    def _restore(self, face: Image) -> Image:
        rgb = torch.from_numpy(np.ascontiguousarray(face[:, :, ::-1])).to(self._device)
        batch = rgb.permute(2, 0, 1)[None].float() / 127.5 - 1
        restored, _ = self._model(batch, return_rgb=False, randomize_noise=False)
        image = ((restored[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        return np.ascontiguousarray(image.cpu().numpy()[:, :, ::-1])


def _load(path: Path) -> torch.nn.Module:
    registry = _spandrel().MAIN_REGISTRY
    hint = "Delete it, then run: warmtalk weights fetch gfpgan"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = content.get("params_ema", content.get("params", content))
    except Exception as error:  # torch raises many types for a file without tensors
        raise Damaged(f"{path} cannot be read as weights ({type(error).__name__})", hint) from error
    try:
        descriptor = registry.load(tensors)
    except Exception as error:  # spandrel has its own type for unknown networks
        raise Damaged(f"{path} holds another network ({type(error).__name__})", hint) from error
    if descriptor.architecture.id != "GFPGAN":
        raise Damaged(f"{path} holds {descriptor.architecture.id}, not GFPGAN", hint)
    model: torch.nn.Module = descriptor.model
    return model


def _spandrel() -> Any:
    """Imports spandrel.

    Two other networks of spandrel import functions of torchvision that GFPGAN does not use. Where torchvision is
    missing or built for another torch, empty modules replace it.
    """
    try:
        importlib.import_module(_UNUSED_MODULE)
    except (ImportError, RuntimeError):
        _install_placeholders()
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise NotReady(f"the library spandrel cannot be imported ({error})", INSTALL_HINT) from error


def _install_placeholders() -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("torchvision", "torchvision.transforms", _UNUSED_MODULE):
        sys.modules[name] = types.ModuleType(name)
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(sys.modules[_UNUSED_MODULE], name, None)
