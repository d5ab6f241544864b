"""Memory checks: objects are freed without the garbage collector, which ignores the size of held frames."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_disabled() -> Iterator[None]:
    """Disables the garbage collector inside the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def wait_until_freed(*kinds: type) -> None:
    """Returns when no object of these types exists, including uncollected garbage. Fails after 5 s."""
    for _ in range(100):
        existing = [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]
        if not existing:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"objects still exist: {existing}")
