"""Builds the infer service from its parts."""

from __future__ import annotations

import cv2

from warmtalk.config import Config
from warmtalk.renderers.loading import load_all
from warmtalk.rpc.server import Server, serve
from warmtalk.services.infer.avatar_cache import AvatarCache
from warmtalk.services.infer.engine import Engine
from warmtalk.services.infer.servicer import InferServicer
from warmtalk.store import AvatarStore
from warmtalk.v1 import infer_pb2_grpc

SERVICE = "warmtalk.v1.InferService"


def build(config: Config) -> tuple[Server, Engine]:
    """Returns a server, not started yet, and the engine. The caller closes the engine after the server."""
    cache = AvatarCache(AvatarStore(config.avatars_dir), config.infer.cache_mb << 20)
    engine = Engine(load_all(config), cache, max_streams=config.infer.max_streams)
    server = Server(config.infer.listen, SERVICE, api_key=config.api_key)
    servicer = InferServicer(engine, batch_frames=config.batch_size)
    infer_pb2_grpc.add_InferServiceServicer_to_server(servicer, server.grpc)
    return server, engine


async def run(config: Config) -> None:
    """Serves until the process is told to stop. Loads the default avatar first, if there is one."""
    cv2.setNumThreads(1)  # images of a face are small: splitting the work over threads costs more than the work
    server, engine = build(config)

    async def warm_up() -> None:
        if config.avatar_id in AvatarStore(config.avatars_dir).ids():
            await engine.warm(config.avatar_id)

    await serve(server, warm_up=warm_up, close=[engine.close])
