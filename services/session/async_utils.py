"""Shielded awaits and task groups for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_completion(work: Awaitable[T]) -> T:
    """Runs to its end even when the caller is cancelled meanwhile, however often; the cancel is passed on after it.

    For work in a thread, which nothing can stop: what comes next must not begin beside it.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()  # seen; the cancel counts
        raise asyncio.CancelledError
    return task.result()


async def gather_or_cancel(*works: Coroutine[Any, Any, None]) -> None:
    """All at once; the first that fails ends the others, and its error is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
