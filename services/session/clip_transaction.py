"""Life of one clip as an async context manager: begin, write, then commit or discard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from warmtalk.core.errors import StorageFull
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile
from warmtalk.media.h264 import X264Settings
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ClipRecord

T = TypeVar("T")


class ClipTransaction:
    """One clip of a conversation, from the first frame to the commit. For one event loop.

    Entering the block opens the clip in the background. Leaving the block without `commit` aborts the clip and removes
    every file of the clip; a StorageFull that leaves the block is recorded as the reason of a lost utterance.
    """

    def __init__(
        self,
        files: SessionFiles,
        text: str,
        size: tuple[int, int],
        x264: X264Settings,
        *,
        live: bool = False,
        commit_pool: Executor | None = None,
        thread_initializer: Callable[[], None] | None = None,
    ) -> None:
        """`size` is (width, height) of the avatar in pixels; `x264` and `live` as in SessionFiles.begin_clip.

        `commit_pool` runs the steps of `commit`; default: the thread of the clip. `thread_initializer` runs first in
        the thread of the clip.
        """
        self._files = files
        self._begin = partial(files.begin_clip, text, *size, x264, live=live)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clip", initializer=thread_initializer)
        self._commit_pool = commit_pool or self._thread
        self._opening: asyncio.Task[ClipWriter]
        self._finishing: asyncio.Future[ClipFile] | None = None

    async def __aenter__(self) -> ClipTransaction:
        self._opening = asyncio.create_task(asyncio.to_thread(self._begin))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lost = error.message if isinstance(error, StorageFull) else ""
        await run_to_completion(self._close(lost))

    async def writer(self) -> ClipWriter:
        """Returns the writer, once the clip is open. Raises the errors of SessionFiles.begin_clip."""
        return await asyncio.shield(self._opening)  # a cancelled caller must not lose a clip that opens in a thread

    def submit(self, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Runs `work` in the thread of the clip, after every earlier call."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def commit(self, max_frames: int, text: str | None = None, *, following: int | None = None) -> ClipRecord:
        """Finishes the clip, cut to `max_frames` (at least 1), and appends the clip to the conversation.

        Call after every write has ended. `text` and `following` as in SessionFiles.commit_clip. Raises the errors of
        ClipWriter.finish and SessionFiles.commit_clip.
        """
        writer, loop = await self.writer(), asyncio.get_running_loop()
        self._finishing = loop.run_in_executor(self._commit_pool, writer.finish, max_frames)
        clip = await asyncio.shield(self._finishing)
        commit = partial(self._files.commit_clip, clip, text, following=following)
        return await run_to_completion(loop.run_in_executor(self._commit_pool, commit))

    async def _close(self, lost: str) -> None:
        try:
            await asyncio.wait([self._opening])
            if self._files.clip_in_progress:
                await self._abort()
                await asyncio.to_thread(self._files.discard_clip, lost)
        finally:
            self._thread.shutdown(wait=False)

    async def _abort(self) -> None:
        """Ends the encoder first, which frees the threads, then removes the files of the last write."""
        if self._opening.cancelled() or self._opening.exception() is not None:
            return
        writer = self._opening.result()
        await asyncio.to_thread(writer.abort)
        if self._finishing is not None:
            await asyncio.wait([self._finishing])
        await self.submit(writer.abort)
