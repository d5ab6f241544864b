"""Size limit and idle timeout of request bodies."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from warmtalk.services.gateway.problems import TooLarge

_IDLE_TIMEOUT_S = 30.0
"""Idle timeout of a request body; protects against slow or abandoned uploads."""


def limit_body(receive: Receive, headers: Headers, max_bytes: int) -> Receive:
    """Returns `receive` with a counter of body bytes.

    Raises TooLarge at once if Content-Length exceeds `max_bytes`. The returned function raises an HTTPException: 413
    when more than `max_bytes` have arrived, 408 when nothing arrives for `_IDLE_TIMEOUT_S` before the end of the body.
    """
    too_large = f"the body is larger than {max_bytes >> 10} KiB"
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise TooLarge(too_large, "Send a smaller body")
    received_bytes, complete = 0, False

    async def receive_limited() -> Message:
        nonlocal received_bytes, complete
        try:
            async with asyncio.timeout(None if complete else _IDLE_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            detail = f"nothing of the body arrived for {_IDLE_TIMEOUT_S:g} s"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        received_bytes += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received_bytes > max_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large)
        return message

    return receive_limited
