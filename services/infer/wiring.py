"""Builds the service out of its parts."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import cv2

from services.infer.avatars import AvatarCache
from services.infer.engine import Engine
from services.infer.servicer import InferServicer
from warmtalk.config import Config
from warmtalk.core.blend import Blending
from warmtalk.core.pipeline import Model
from warmtalk.models.checkpoints import weights
from warmtalk.models.mesh.renderer import MeshRenderer
from warmtalk.models.mouth.net import TrainedMouth
from warmtalk.rpc.server import Server, serve
from warmtalk.store import AvatarStore
from warmtalk.v1 import infer_pb2_grpc

SERVICE = "warmtalk.v1.InferService"


def renderers(config: Config) -> list[str]:
    """Names of the renderers of this server, the default first: musetalk where torch and its weights are there."""
    here = ["mesh"]
    if weights.present(config.models_dir, config.musetalk.version) and find_spec("torch") and find_spec("diffusers"):
        here.append("musetalk")
    return sorted(here, key=lambda name: name != config.infer.renderer)


def model(name: str, config: Config) -> Model:
    """One of `renderers`, loaded. Raises NotReady and Damaged when its weights are not what they should be."""
    if name == "musetalk":
        from services.infer import musetalk

        return replace(musetalk.model(config.models_dir, config.musetalk), blending=blending(name, config))
    return Model(TrainedMouth(), MeshRenderer(config.infer.mouth_strength), blending(name, config))


def blending(name: str, config: Config) -> Blending:
    """For the faces of a renderer."""
    wanted = config.infer.colour_match
    # The embedded renderer moves the source's own pixels: there is nothing to match, and no edge to hide.
    match = wanted == "on" or (wanted == "auto" and name != "mesh")
    return Blending(config.infer.blend, match, name != "mesh", config.infer.sharpen)


def models(config: Config | None = None) -> dict[str, Model]:
    """Renderers of this server by name, the default first. Without a configuration the embedded one alone."""
    if config is None:
        return {"mesh": model("mesh", Config())}
    return {name: model(name, config) for name in renderers(config)}


def build(config: Config) -> tuple[Server, Engine]:
    """A server that is not started yet, and its engine, which is to be closed after it."""
    cache = AvatarCache(AvatarStore(config.avatars_dir), config.infer.cache_mb << 20)
    engine = Engine(models(config), cache, max_streams=config.infer.max_streams)
    server = Server(config.infer.listen, SERVICE, api_key=config.api_key)
    servicer = InferServicer(engine, batch_frames=config.batch_size)
    infer_pb2_grpc.add_InferServiceServicer_to_server(servicer, server.grpc)
    return server, engine


async def run(config: Config) -> None:
    cv2.setNumThreads(1)  # a face is small: handing parts of it to other threads only waits for them
    server, engine = build(config)

    async def warm_up() -> None:
        if config.avatar_id in AvatarStore(config.avatars_dir).ids():
            await engine.warm(config.avatar_id)

    await serve(server, warm_up=warm_up, close=[engine.close])
