"""What is left to the garbage collector, which counts things and knows nothing of the pictures that they hold."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def gone(*kinds: type) -> None:
    """Returns when no object of these kinds is left, garbage included."""
    for _ in range(100):
        left = [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]
        if not left:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"still there: {left}")
