"""GFPGAN v1.4: the published checkpoint, through spandrel, as a restorer of aligned faces."""

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

HOW = "Run: pip install 'warmtalk[enhance]' && pip install --no-deps spandrel==0.4.2"
_UNUSED = "torchvision.transforms.functional"


class Gfpgan:
    """[512, 512, 3] uint8 BGR aligned face to the restored one. The same face gives the same: its noise is the file's
    own, not drawn anew for each frame. One thread; about 1.5 GB, and a second a face on two cores.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        """`device` is auto, cpu or cuda. Raises NotReady without spandrel, Damaged when the file is not GFPGAN's."""
        self._device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self._model = _load(path).to(self._device).eval()

    def __call__(self, face: Image) -> Image:
        with torch.inference_mode():
            return self._restored(face)

    def _restored(self, face: Image) -> Image:
        rgb = torch.from_numpy(np.ascontiguousarray(face[:, :, ::-1])).to(self._device)
        given = rgb.permute(2, 0, 1)[None].float() / 127.5 - 1
        made, _ = self._model(given, return_rgb=False, randomize_noise=False)
        image = ((made[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        return np.ascontiguousarray(image.cpu().numpy()[:, :, ::-1])


def _load(path: Path) -> torch.nn.Module:
    registry = _spandrel().MAIN_REGISTRY
    again = "Delete it, then run: warmtalk weights fetch gfpgan"
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        tensors = held.get("params_ema", held.get("params", held))
    except Exception as error:  # torch has many types for what is no file of tensors
        raise Damaged(f"{path} cannot be read as weights ({type(error).__name__})", again) from error
    try:
        made = registry.load(tensors)
    except Exception as error:  # spandrel has a type of its own for what it does not know
        raise Damaged(f"{path} holds another network ({type(error).__name__})", again) from error
    if made.architecture.id != "GFPGAN":
        raise Damaged(f"{path} holds {made.architecture.id}, not GFPGAN", again)
    model: torch.nn.Module = made.model
    return model


def _spandrel() -> Any:
    """The library. Two of its other networks import a few functions of torchvision, which GFPGAN has no use for: where
    torchvision is missing, or made for another torch, empty names stand in for them.
    """
    try:
        importlib.import_module(_UNUSED)
    except (ImportError, RuntimeError):
        _stand_in()
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise NotReady(f"this needs the library spandrel ({error})", HOW) from error


def _stand_in() -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for name in ("torchvision", "torchvision.transforms", _UNUSED):
        sys.modules[name] = types.ModuleType(name)
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(sys.modules[_UNUSED], name, None)
