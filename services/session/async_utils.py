"""Shielded awaits, task groups and thread pools for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_completion(work: Awaitable[T]) -> T:
    """Awaits `work` to the end even when the caller is cancelled, however often, then raises the CancelledError.

    For work in a thread, which cannot be stopped: the next step of the caller must not run beside the thread.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()  # marks the error as retrieved; the cancellation takes precedence
        raise asyncio.CancelledError
    return task.result()


async def gather_or_cancel(*works: Coroutine[Any, Any, None]) -> None:
    """Runs all coroutines at once. The first failure cancels the others and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_in_pool(pool: Executor, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Starts `work` in a thread of `pool`."""
    return asyncio.get_running_loop().run_in_executor(pool, work, *args)
