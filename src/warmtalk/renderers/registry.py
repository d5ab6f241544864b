"""Registry of the face renderers of this installation."""

from __future__ import annotations

from dataclasses import replace

from warmtalk.config import Config
from warmtalk.core.blend import Blending
from warmtalk.core.pipeline import RenderModel
from warmtalk.models.checkpoints import weights
from warmtalk.models.mesh.renderer import MeshRenderer
from warmtalk.models.mouth.net import TrainedMouth


def renderers(config: Config) -> list[str]:
    """Names of the renderers of this server, the default first: musetalk where torch and its weights are there."""
    here = ["mesh"]
    if weights.present(config.models_dir, config.musetalk.version) and not weights.missing_libraries():
        here.append("musetalk")
    return sorted(here, key=lambda name: name != config.infer.renderer)


def model(name: str, config: Config) -> RenderModel:
    """One of `renderers`, loaded. Raises NotReady and Damaged when its weights are not what they should be."""
    if name == "musetalk":
        from warmtalk.renderers import musetalk

        return replace(musetalk.model(config.models_dir, config.musetalk), blending=blending(name, config))
    return RenderModel(TrainedMouth(), MeshRenderer(config.infer.mouth_strength), blending(name, config))


def blending(name: str, config: Config) -> Blending:
    """For the faces of a renderer."""
    wanted = config.infer.colour_match
    # The embedded renderer moves the source's own pixels: there is nothing to match, and no edge to hide.
    match = wanted == "on" or (wanted == "auto" and name != "mesh")
    return Blending(config.infer.blend, match, name != "mesh", config.infer.sharpen)


def models(config: Config | None = None) -> dict[str, RenderModel]:
    """Renderers of this server by name, the default first. Without a configuration the embedded one alone."""
    if config is None:
        return {"mesh": model("mesh", Config())}
    return {name: model(name, config) for name in renderers(config)}
