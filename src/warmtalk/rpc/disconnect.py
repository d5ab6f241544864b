"""Closing of a stream when its client disconnects."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import grpc


class Closable(Protocol):
    """A stream that can be closed."""

    def close(self) -> None:
        """Closes the stream. Idempotent; any thread may call."""


def close_on_disconnect(context: grpc.aio.ServicerContext[Any, Any], stream: Closable) -> None:
    """Closes `stream` when the call ends in any way, unless the stream was garbage-collected before.

    grpc.aio contexts form reference cycles. A strong reference from a done-callback would keep frame buffers alive
    until the next garbage collection, which counts objects and not bytes: tens of MiB for each thousand calls.
    """
    reference = weakref.ref(stream)

    def close(_: object) -> None:
        if (alive := reference()) is not None:
            alive.close()

    context.add_done_callback(close)  # type: ignore[arg-type]  # the type stub expects a class
