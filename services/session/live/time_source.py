"""Wall-clock time of the live path; tests pass a fake clock instead."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class TimeSource(Protocol):
    """Monotonic time and sleep. `monotonic` is for any thread, `sleep` for the event loop."""

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; yields to other tasks even when `seconds` is 0."""
        ...


class SystemTime:
    """The time of this machine."""

    def monotonic(self) -> float:
        """Returns time.monotonic()."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleeps on the event loop."""
        await asyncio.sleep(seconds)


SYSTEM_TIME = SystemTime()
