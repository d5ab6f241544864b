"""What to do when a client has gone."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import grpc


class Closable(Protocol):
    def close(self) -> None:
        """In any thread, any number of times."""


def close_on_disconnect(context: grpc.aio.ServicerContext[Any, Any], what: Closable) -> None:
    """Closes it when the call ends, in whatever way, unless it is gone itself by then.

    A context is part of a cycle within grpc.aio. What its callbacks held, the pictures of a stream, would wait for the
    garbage collector, which counts things and not their size: tens of MiB more after each thousand calls.
    """
    held = weakref.ref(what)

    def close(_: object) -> None:
        if (one := held()) is not None:
            one.close()

    context.add_done_callback(close)  # type: ignore[arg-type]  # its stub takes a class
