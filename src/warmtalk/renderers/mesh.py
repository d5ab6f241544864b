"""Embedded renderer: moves the mouth of the source frame by the face mesh. CPU only, no weights to fetch."""

from __future__ import annotations

from warmtalk.config import Config
from warmtalk.core.pipeline import RenderModel
from warmtalk.models.mesh.renderer import MeshRenderer
from warmtalk.models.mouth.net import TrainedMouth


def missing(config: Config) -> str:
    """Returns "": all parts belong to the package."""
    return ""


def describe(config: Config) -> str:
    """Returns the state for `warmtalk doctor`."""
    return "part of the package"


def load(config: Config) -> RenderModel:
    """Loads the trained mouth and the mesh renderer."""
    return RenderModel(TrainedMouth(), MeshRenderer(config.infer.mouth_strength))
