"""Loads avatars before the first utterance needs them."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor

import grpc

from warmtalk.core.errors import WarmtalkError
from warmtalk.services.session.async_utils import run_in_pool
from warmtalk.services.session.pipeline_deps import PipelineDeps

log = logging.getLogger(__name__)


class AvatarWarmer:
    """Loads avatars in the background, here and in infer. For one event loop."""

    def __init__(self, deps: PipelineDeps, pool: Executor) -> None:
        self._deps = deps
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, avatar_id: str) -> None:
        """Starts to load the avatar and returns at once. An error is logged; the next utterance reports the error."""
        self._tasks.add(task := asyncio.create_task(self._warm(avatar_id)))
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancels what is still loading."""
        for task in self._tasks:
            task.cancel()

    async def _warm(self, avatar_id: str) -> None:
        try:
            source_frames = await run_in_pool(self._pool, self._deps.avatars.get, avatar_id)
            await asyncio.gather(
                self._deps.infer.warm_avatar(avatar_id), run_in_pool(self._pool, source_frames.source_frame, 0)
            )
        except (grpc.aio.AioRpcError, WarmtalkError) as error:
            log.info("avatar %s is not warm: %s", avatar_id, error)
