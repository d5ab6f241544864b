"""Live video to browsers: a WebSocket for MediaSource, and plain chunked MP4."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Query, Request, WebSocket
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import InvalidInput, NotReady, WarmtalkError
from warmtalk.services.gateway.chat_client import rejection_error, unreachable_error
from warmtalk.services.gateway.live.broadcast import Broadcast, Viewer
from warmtalk.services.gateway.live.edit_list import starting_at
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.schemas import error_event
from warmtalk.store import checked_id

_MOST_TEXT = 5000
_CLOSED = 4000
"""WebSocket close code after an `error` event: the stream has ended."""
_REFUSED = 4001
"""The same before it has begun."""


class Transcript(BaseModel):
    text: str


class LiveRoutes:
    def __init__(self, hub: LiveStreamRegistry, config: GatewayConfig) -> None:
        self._hub = hub
        self._config = config
        self.router = APIRouter(tags=["live"])
        one = "/v1/sessions/{session_id}"
        video: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}
        self.router.add_api_route(
            f"{one}/live.mp4", self.plain, methods=["GET"], responses=video, response_class=StreamingResponse
        )
        self.router.add_api_route("/v1/transcriptions", self.transcribe, methods=["POST"])
        self.router.add_api_websocket_route(f"{one}/live", self.socket)

    async def plain(
        self,
        session_id: str,
        stream: Annotated[str, Query(description="Of the `live` connection, to go on with.")] = "",
        position: Annotated[float | None, Query(ge=0, description="Where the player was, in seconds.")] = None,
    ) -> StreamingResponse:
        """Live video without end, for a plain <video>: H.264 and AAC. Asked for again with its `stream` and `position`
        it goes on exactly there; else it begins at the newest key picture. The player's clock is 0 where it begins,
        at `X-Position` of the stream.
        """
        viewer = await self._hub.join(checked_id(session_id, "session_id"), stream=stream, position_s=position)
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Stream": viewer.live.stream_id,
            "X-Position": f"{viewer.begin_s:.6f}",
        }
        return StreamingResponse(self._video(viewer), headers=headers, media_type="video/mp4")

    async def transcribe(self, request: Request) -> Transcript:
        """A wav file as text, by the configured server; NOT_READY when there is none."""
        if not self._config.transcriptions_url:
            raise NotReady("no transcription server is configured", "Set gateway.transcriptions_url")
        url = self._config.transcriptions_url.rstrip("/") + "/audio/transcriptions"
        key = self._config.transcriptions_key
        files = {"file": ("speech.wav", await request.body(), "audio/wav")}
        try:
            async with httpx.AsyncClient(timeout=60.0) as http:
                answer = await http.post(
                    url,
                    files=files,
                    data={"model": self._config.transcriptions_model},
                    headers={"Authorization": f"Bearer {key}"} if key else {},
                )
            if answer.status_code != httpx.codes.OK:
                raise rejection_error("transcriptions", answer.status_code, answer.content)
            return Transcript(text=str(answer.json()["text"]).strip())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise unreachable_error("transcriptions", url, error) from error

    async def socket(self, socket: WebSocket, session_id: str) -> None:
        """Out: `opened`, then binary fragments and events. In: JSON messages by `type`, binary 16 kHz 16-bit sound.

        Query: `stream` of a player that comes back, with `after`, the sequence of the last fragment that it has (in its
        mfhd), and the `position` where it was. `opened` says whether it is `resumed`, which is to say that just the
        next fragments come; else the head comes first, and the player shows what follows from `begin_s` on.
        `media=0`: events alone.
        """
        await socket.accept()
        query = socket.query_params
        try:
            position = _seconds(query["position"]) if "position" in query else None
            viewer = await self._hub.join(
                checked_id(session_id, "session_id"),
                stream=query.get("stream", ""),
                after=_sequence(query["after"]) if "after" in query else None,
                position_s=position,
            )
        except WarmtalkError as error:
            await _last_words(socket, error, _REFUSED)
            return
        try:
            with suppress(WebSocketDisconnect):  # gone before it was told anything
                await self._serve(socket, viewer, media=query.get("media") != "0")
        finally:
            self._hub.leave(viewer)

    async def _serve(self, socket: WebSocket, viewer: Viewer, *, media: bool) -> None:
        await socket.send_json({**viewer.live.opened, "resumed": viewer.resumed, "begin_s": viewer.begin_s})
        sending = asyncio.Lock()  # a message is whole before the next begins
        tasks = [
            asyncio.create_task(work) for work in (_receive(socket, viewer, sending), _events(socket, viewer, sending))
        ]
        tasks.append(asyncio.create_task(_media(socket, viewer, sending, media=media)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if viewer.live.ended is not None:
            await _last_words(socket, viewer.live.ended, _CLOSED)

    async def _video(self, viewer: Viewer) -> AsyncIterator[bytes]:
        try:
            yield starting_at(viewer.live.head, viewer.begin_s)
            async for piece in viewer.pieces():
                yield piece.data
        finally:
            self._hub.leave(viewer)


async def _media(socket: WebSocket, viewer: Viewer, sending: asyncio.Lock, *, media: bool) -> None:
    """Also ends when the stream does, with or without pictures."""
    if media and not viewer.resumed:
        async with sending:
            await socket.send_bytes(viewer.live.head)
    async for piece in viewer.pieces():
        if media:
            async with sending:
                await socket.send_bytes(piece.data)


async def _events(socket: WebSocket, viewer: Viewer, sending: asyncio.Lock) -> None:
    while True:
        event = await viewer.events.get()
        async with sending:
            await socket.send_json(event)


async def _receive(socket: WebSocket, viewer: Viewer, sending: asyncio.Lock) -> None:
    """A mistake is answered with an `error` event; the connection goes on."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            if data := message.get("bytes"):
                await viewer.live.pcm(_samples(data))
            else:
                await _act(viewer.live, _parsed(message.get("text") or ""))
        except WarmtalkError as error:
            async with sending:
                await socket.send_json(error_event(error))


async def _act(live: Broadcast, message: dict[str, Any]) -> None:
    acts: dict[str, Callable[[], Awaitable[None]]] = {
        "text": lambda: live.text(_text(message)),
        "ask": lambda: live.ask(_text(message)),
        "pcm": lambda: live.pcm(_samples(_decoded(message.get("data")))),
        "end": live.end,
        "interrupt": lambda: live.interrupt(_seconds(message["position"]) if "position" in message else None),
        "playback": lambda: live.playback(_seconds(message.get("position"))),
    }
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in acts:
        raise InvalidInput(f"there is no message of type {str(kind)[:40]!r}", f"Known: {', '.join(acts)}", field="type")
    await acts[kind]()


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the message is not JSON ({error})", "Send an object with a `type`") from error
    if not isinstance(message, dict):
        raise InvalidInput("the message is not an object", "Send an object with a `type`")
    return message


def _text(message: dict[str, Any]) -> str:
    text = message.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("there is no text", "Send `text`", field="text")
    if len(text) > _MOST_TEXT:
        raise InvalidInput(f"the text has {len(text)} characters", f"Send at most {_MOST_TEXT}", field="text")
    return text


def _decoded(data: object) -> bytes:
    with suppress(binascii.Error, ValueError, TypeError):
        return base64.b64decode(str(data), validate=True)
    raise InvalidInput("data is not base64", "Send 16-bit samples at 16 kHz as base64", field="data")


def _samples(data: bytes) -> bytes:
    if len(data) % 2:
        raise InvalidInput(f"the sound has {len(data)} bytes", "Send 16-bit samples", field="data")
    return data


def _seconds(value: object) -> float:
    with suppress(ValueError, TypeError):
        seconds = float(str(value))
        if math.isfinite(seconds) and 0 <= seconds < 1e7:
            return seconds
    raise InvalidInput(f"position is {str(value)[:40]!r}", "Send seconds", field="position")


def _sequence(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 12:
        return int(value)
    raise InvalidInput(f"after is {value[:40]!r}", "Send the sequence of a fragment", field="after")


async def _last_words(socket: WebSocket, error: WarmtalkError, code: int) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_json(error_event(error))
        await socket.close(code, error.reason)
