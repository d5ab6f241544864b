"""Events as server-sent events or as lines of JSON, whichever the client accepts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar, cast

from fastapi import Request
from starlette.responses import StreamingResponse

from warmtalk.core.errors import Interrupted, WarmtalkError
from warmtalk.services.gateway.problems import unexpected
from warmtalk.services.gateway.schemas import error_event

T = TypeVar("T")
_SSE, _NDJSON = "text/event-stream", "application/x-ndjson"


def wanted(request: Request) -> str:
    """The streamed kind that the client accepts, or nothing."""
    accepted = request.headers.get("accept", "")
    return next((kind for kind in (_SSE, _NDJSON) if kind in accepted), "")


async def respond(kind: str, events: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """An error before the first event is raised, so that it gets its status; a later one becomes an `error` event."""
    first = await anext(events, None)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(kind, first, events), headers=headers, media_type=kind)


async def _lines(kind: str, first: dict[str, Any] | None, rest: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async with aclosing(cast(Any, rest)):
        try:
            if first is not None:
                yield _line(kind, first)
            async for event in rest:
                yield _line(kind, event)
        except WarmtalkError as error:
            yield _line(kind, error_event(error))
        except Exception as error:  # noqa: BLE001 - the status is sent; the reader must learn of it all the same
            yield _line(kind, error_event(unexpected(error)))


def _line(kind: str, event: dict[str, Any]) -> str:
    text = json.dumps(event, ensure_ascii=False)
    return f"event: {event['event']}\ndata: {text}\n\n" if kind == _SSE else f"{text}\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled when the client goes away. The body must have been read."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Interrupted("the client went away")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
