"""Low-priority thread pool for clip recording, shared by all live streams.

Recording must never delay live frames. When many streams end an utterance at once, the pool finishes their clips one
after the other.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

_NICE = 5
_THREADS = max(1, (os.cpu_count() or 1) // 2)


def lower_thread_priority() -> None:
    """Lowers the priority of the calling thread and of the processes started by the thread. Linux only."""
    if sys.platform == "linux":  # the only system with a priority per thread
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


BACKGROUND_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="background", initializer=lower_thread_priority)
