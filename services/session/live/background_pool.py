"""Recording steps back behind the live pictures: few threads for all streams, which get the processor last.

When many streams end an utterance at once, their clips are finished one after the other instead of all together.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_NICE = 5
_THREADS = max(1, (os.cpu_count() or 1) // 2)


def lower_thread_priority() -> None:
    """The calling thread, and the processes that it starts, come after all others that want the processor."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


BACKGROUND_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="leisure", initializer=lower_thread_priority)


async def run_in_background(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(BACKGROUND_POOL, work)
