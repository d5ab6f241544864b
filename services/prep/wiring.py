"""Builds the service out of its parts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from warmtalk.avatar.from_config import builder, configured, order
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
    """A server that is not started yet, and its jobs, to be started before it and closed after it."""
    store = AvatarStore(config.avatars_dir)
    uploads = UploadStore(config.avatars_dir / ".uploads", config.prep.max_upload_mb << 20)
    jobs = BuildJobs(store, uploads, lambda: builder(config, store), config.prep.max_queue)
    server = Server(config.prep.listen, SERVICE, api_key=config.api_key)
    prep_pb2_grpc.add_PrepServiceServicer_to_server(PrepServicer(config, store, uploads, jobs), server.grpc)
    return server, jobs


async def run(config: Config) -> None:
    server, jobs = build(config)
    jobs.start()

    async def warm_up() -> None:
        if config.preparation and config.avatar_id and config.video_path:
            await asyncio.to_thread(prepare, config, jobs)

    async def close() -> None:
        await asyncio.to_thread(jobs.close)

    await serve(server, warm_up=warm_up, close=[close])


def prepare(config: Config, jobs: BuildJobs) -> None:
    """Asks for the avatar of the configuration unless it is there. A failure is logged; the service runs all the same.

    An avatar of that id made from something else is left alone: it may be in use.
    """
    source = Path(config.video_path)
    try:
        sniff_file(source)
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        params = configured(config)
        jobs.submit(order(checked_id(config.avatar_id, "avatar_id"), source, source.name, digest, params, config))
    except WarmtalkError as error:
        log.error("%s is not prepared: %s", config.avatar_id, error)
