"""Wiring of the prep service: constructs the parts and runs the server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from warmtalk.avatar.from_config import build_request, builder_from_config, params_from_config
from warmtalk.config import Config
from warmtalk.core.errors import WarmtalkError
from warmtalk.media.file_types import sniff_file
from warmtalk.rpc.server import Server, serve
from warmtalk.services.prep.jobs import BuildJobs
from warmtalk.services.prep.servicer import PrepServicer
from warmtalk.services.prep.uploads import UploadStore
from warmtalk.store import AvatarStore, checked_id
from warmtalk.v1 import prep_pb2_grpc

log = logging.getLogger(__name__)

SERVICE = "warmtalk.v1.PrepService"


def build(config: Config) -> tuple[Server, BuildJobs]:
    """Returns the server, not started yet, and the jobs: start the jobs before the server, close the jobs after it."""
    store = AvatarStore(config.avatars_dir)
    uploads = UploadStore(config.avatars_dir / ".uploads", config.prep.max_upload_mb << 20)
    jobs = BuildJobs(store, uploads, lambda: builder_from_config(config, store), config.prep.max_queue)
    server = Server(config.prep.listen, SERVICE, api_key=config.api_key)
    prep_pb2_grpc.add_PrepServiceServicer_to_server(PrepServicer(config, store, uploads, jobs), server.grpc)
    return server, jobs


async def run(config: Config) -> None:
    """Runs the service until a signal, and builds the configured avatar if missing."""
    server, jobs = build(config)
    jobs.start()

    async def warm_up() -> None:
        if config.preparation and config.avatar_id and config.video_path:
            await asyncio.to_thread(build_configured_avatar, config, jobs)

    async def close() -> None:
        await asyncio.to_thread(jobs.close)

    await serve(server, warm_up=warm_up, close=[close])


def build_configured_avatar(config: Config, jobs: BuildJobs) -> None:
    """Submits the avatar of the configuration unless it exists. Errors are logged, and the service still starts.

    An avatar with the same id but another source stays untouched, because the avatar may be in use.
    """
    source = Path(config.video_path)
    try:
        sniff_file(source)
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        params = params_from_config(config)
        avatar_id = checked_id(config.avatar_id, "avatar_id")
        jobs.submit(build_request(avatar_id, source, source.name, digest, params, config))
    except WarmtalkError as error:
        log.error("avatar %s was not built: %s", config.avatar_id, error)
