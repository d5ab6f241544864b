"""Live video: a WebSocket for MediaSource, chunked MP4 for plain players; /v1/transcriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import httpx
from fastapi import Query, Request, WebSocket
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import NotReady, WarmtalkError
from warmtalk.services.gateway.chat_client import rejection_error, unreachable_error
from warmtalk.services.gateway.event_json import error_event
from warmtalk.services.gateway.live.broadcast import Viewer
from warmtalk.services.gateway.live.edit_list import add_edit_list
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.live.viewer_messages import handle_audio, handle_message, parse_seconds, parse_sequence
from warmtalk.services.gateway.route_policy import FORM_OVERHEAD_BYTES, SESSION_PATH, Access, PolicyRouter
from warmtalk.services.gateway.schemas import Transcript
from warmtalk.store import checked_id

_STREAM_ENDED = 4000
"""WebSocket close code after an `error` event: the stream has ended."""
_STREAM_REFUSED = 4001
"""WebSocket close code after an `error` event: the stream has not started."""
_VIDEO: dict[int | str, dict[str, Any]] = {200: {"content": {"video/mp4": {}}}}


class LiveRoutes:
    """Routes of live streams."""

    def __init__(self, streams: LiveStreamRegistry, config: GatewayConfig) -> None:
        self._streams = streams
        self._config = config
        self.router = PolicyRouter("live")
        self.router.add(
            "GET",
            f"{SESSION_PATH}/live.mp4",
            self.stream_mp4,
            Access.SESSION,
            name="plain",
            responses=_VIDEO,
            response_class=StreamingResponse,
        )
        self.router.add(
            "POST",
            "/v1/transcriptions",
            self.transcribe,
            Access.PAGE,
            max_body_bytes=(config.max_audio_mb << 20) + FORM_OVERHEAD_BYTES,
        )
        self.router.add_websocket(f"{SESSION_PATH}/live", self.serve_websocket, Access.SESSION)

    async def stream_mp4(
        self,
        session_id: str,
        stream: Annotated[str, Query(description="Stream id of the `live` connection to continue.")] = "",
        position: Annotated[float | None, Query(ge=0, description="Position of the player, in seconds.")] = None,
    ) -> StreamingResponse:
        """Streams live video without end for a plain <video>: H.264 and AAC.

        With the `stream` and `position` of an earlier request, the video continues exactly there; else the video
        starts at the newest key frame. The player's clock is 0 at the start, `X-Position` seconds into the stream.
        """
        viewer = await self._streams.join(checked_id(session_id, "session_id"), stream=stream, position_s=position)
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Stream": viewer.broadcast.stream_id,
            "X-Position": f"{viewer.begin_s:.6f}",
        }
        return StreamingResponse(self._mp4(viewer), headers=headers, media_type="video/mp4")

    async def transcribe(self, request: Request) -> Transcript:
        """Transcribes a wav file with the configured server; NOT_READY without one."""
        if not self._config.transcriptions_url:
            raise NotReady("no transcription server is configured", "Set gateway.transcriptions_url")
        url = self._config.transcriptions_url.rstrip("/") + "/audio/transcriptions"
        key = self._config.transcriptions_key
        files = {"file": ("speech.wav", await request.body(), "audio/wav")}
        try:
            async with httpx.AsyncClient(timeout=60.0) as http:
                response = await http.post(
                    url,
                    files=files,
                    data={"model": self._config.transcriptions_model},
                    headers={"Authorization": f"Bearer {key}"} if key else {},
                )
            if response.status_code != httpx.codes.OK:
                raise rejection_error("transcriptions", response.status_code, response.content)
            return Transcript(text=str(response.json()["text"]).strip())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise unreachable_error("transcriptions", url, error) from error

    async def serve_websocket(self, socket: WebSocket, session_id: str) -> None:
        """Serves one viewer. Sends `opened`, then binary fragments and JSON events; receives JSON messages by `type`
        and binary audio (16 kHz, 16-bit mono).

        Query: a reconnecting viewer gives the known `stream`, with `after`, the sequence of the last fragment (in the
        mfhd box), and the `position` of the player. `opened` tells whether the viewer is `resumed`: then only the next
        fragments follow; else the initialization segment comes first, and the player shows video from `begin_s`.
        With `media=0` only events are sent.
        """
        await socket.accept()
        query = socket.query_params
        try:
            position = parse_seconds(query["position"]) if "position" in query else None
            viewer = await self._streams.join(
                checked_id(session_id, "session_id"),
                stream=query.get("stream", ""),
                after=parse_sequence(query["after"]) if "after" in query else None,
                position_s=position,
            )
        except WarmtalkError as error:
            await _close_with_error(socket, error, _STREAM_REFUSED)
            return
        try:
            with suppress(WebSocketDisconnect):  # the viewer left before the first event
                await self._serve(socket, viewer, media=query.get("media") != "0")
        finally:
            self._streams.leave(viewer)

    async def _serve(self, socket: WebSocket, viewer: Viewer, *, media: bool) -> None:
        opened = viewer.broadcast.opened_event
        await socket.send_json({**opened, "resumed": viewer.resumed, "begin_s": viewer.begin_s})
        send_lock = asyncio.Lock()  # events and fragments are sent by different tasks
        work = (
            _receive(socket, viewer, send_lock),
            _send_events(socket, viewer, send_lock),
            _send_fragments(socket, viewer, send_lock, media=media),
        )
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if viewer.broadcast.end_reason is not None:
            await _close_with_error(socket, viewer.broadcast.end_reason, _STREAM_ENDED)

    async def _mp4(self, viewer: Viewer) -> AsyncIterator[bytes]:
        try:
            yield add_edit_list(viewer.broadcast.init_segment, viewer.begin_s)
            async for fragment in viewer.fragments():
                yield fragment.data
        finally:
            self._streams.leave(viewer)


async def _send_fragments(socket: WebSocket, viewer: Viewer, send_lock: asyncio.Lock, *, media: bool) -> None:
    """Sends the video until the stream ends; without `media` only waits for the end."""
    if media and not viewer.resumed:
        async with send_lock:
            await socket.send_bytes(viewer.broadcast.init_segment)
    async for fragment in viewer.fragments():
        if media:
            async with send_lock:
                await socket.send_bytes(fragment.data)


async def _send_events(socket: WebSocket, viewer: Viewer, send_lock: asyncio.Lock) -> None:
    while True:
        event = await viewer.events.get()
        async with send_lock:
            await socket.send_json(event)


async def _receive(socket: WebSocket, viewer: Viewer, send_lock: asyncio.Lock) -> None:
    """Handles messages until the viewer disconnects. A bad message is answered with an `error` event."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            if data := message.get("bytes"):
                await handle_audio(viewer.broadcast, data)
            else:
                await handle_message(viewer.broadcast, message.get("text") or "")
        except WarmtalkError as error:
            async with send_lock:
                await socket.send_json(error_event(error))


async def _close_with_error(socket: WebSocket, error: WarmtalkError, code: int) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_json(error_event(error))
        await socket.close(code, error.reason)
