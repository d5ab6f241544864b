"""Event responses: server-sent events or NDJSON, by the Accept header."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar, cast

from fastapi import Request
from starlette.responses import StreamingResponse

from warmtalk.core.errors import Interrupted, WarmtalkError
from warmtalk.services.gateway.event_json import error_event
from warmtalk.services.gateway.problems import internal_error

T = TypeVar("T")
SSE, NDJSON = "text/event-stream", "application/x-ndjson"


def accepted_type(request: Request) -> str:
    """Returns the event format accepted by the client, or an empty string."""
    accepted = request.headers.get("accept", "")
    return next((media_type for media_type in (SSE, NDJSON) if media_type in accepted), "")


async def event_response(media_type: str, events: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Returns a streaming response of `events`, each an object with the key `event`.

    Awaits the first event before the status is sent. An error before the first event is raised and answered with the
    status of the error; a later error becomes a final `error` event.
    """
    first = await anext(events, None)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(media_type, first, events), headers=headers, media_type=media_type)


async def _lines(
    media_type: str, first: dict[str, Any] | None, rest: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    async with aclosing(cast(Any, rest)):
        try:
            if first is not None:
                yield _line(media_type, first)
            async for event in rest:
                yield _line(media_type, event)
        except WarmtalkError as error:
            yield _line(media_type, error_event(error))
        except Exception as error:  # noqa: BLE001 - the status is already sent, so the error goes into the stream
            yield _line(media_type, error_event(internal_error(error)))


def _line(media_type: str, event: dict[str, Any]) -> str:
    text = json.dumps(event, ensure_ascii=False)
    return f"event: {event['event']}\ndata: {text}\n\n" if media_type == SSE else f"{text}\n"


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of `work`. Cancels `work` and raises Interrupted when the client disconnects.

    The request body must have been read before.
    """
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            return worker.result()
        raise Interrupted("the client disconnected")
    finally:
        for task in (worker, watcher):
            task.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
