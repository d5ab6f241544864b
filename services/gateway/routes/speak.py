"""POST /v1/speak, and the old names POST /speak and GET /reset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.responses import Response

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import Busy, InvalidInput, WarmtalkError
from warmtalk.services.gateway import event_stream
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.schemas import SpokenView, Views, event_view, seconds
from warmtalk.v1 import session_pb2

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["text"],
                    "properties": {
                        "text": {"type": "string", "example": "Hello there."},
                        "session_id": {"type": "string", "description": "Made when it is new. Default: configured."},
                        "avatar_id": {"type": "string", "description": "Of a new session. Default: the configured."},
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["audio"],
                    "properties": {
                        "audio": {"type": "string", "format": "binary", "description": "wav, mp3, flac or ogg"},
                        "session_id": {"type": "string"},
                        "avatar_id": {"type": "string"},
                    },
                }
            },
        },
    }
}


@dataclass(frozen=True, slots=True)
class SpeakInput:
    session_id: str
    avatar_id: str
    text: str
    audio: bytes

    @property
    def request(self) -> session_pb2.SpeakRequest:
        if self.audio:
            return session_pb2.SpeakRequest(session_id=self.session_id, audio=self.audio)
        return session_pb2.SpeakRequest(session_id=self.session_id, text=self.text)


class OldSpeak(BaseModel):
    text: str


class SpeakRoutes:
    def __init__(self, backend: Backend, views: Views, hub: LiveStreamRegistry, config: GatewayConfig) -> None:
        self._backend = backend
        self._views = views
        self._hub = hub
        self._config = config
        self.router = APIRouter(tags=["speak"])
        add = self.router.add_api_route
        add("/v1/speak", self.speak, methods=["POST"], response_model=SpokenView, openapi_extra=_BODY)
        add("/speak", self.old_speak, methods=["POST"])
        add("/reset", self.old_reset, methods=["GET"])

    async def speak(self, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> SpokenView | Response:
        """Says a text or a sound; answers when the clip is in the conversation.

        With `Accept: text/event-stream` or `application/x-ndjson` it answers at once and streams the events:
        accepted, started, progress ..., clip_ready, conversation_updated, finished (or error). A client that goes
        away cancels it.
        """
        order = await self._order(request)
        caller.check(order.session_id)
        self._check_free(order.session_id)
        await self._backend.ensure_session(order.session_id, order.avatar_id)
        if kind := event_stream.wanted(request):
            return await event_stream.respond(kind, self._events(order))
        return await event_stream.while_connected(request, self._say(order))

    async def old_speak(self, request: Request, body: OldSpeak) -> dict[str, Any]:
        """As the warm server's POST /speak: {"text": ...} in, the path of the conversation's video out."""
        session_id = self._config.session_id
        self._check_free(session_id)
        await self._backend.ensure_session(session_id, "")
        spoken = await event_stream.while_connected(request, self._say(SpeakInput(session_id, "", body.text, b"")))
        session = await self._backend.get_session(session_id)
        return {
            "status": "ok",
            "video_path": str(self._views.file(session_id, session.conversation.uri)),
            "video_url": spoken.conversation.url,
            "clip_path": str(self._views.file(session_id, session.conversation.clips[-1].uri)),
            "clip_url": spoken.clip.url,
            "duration": spoken.conversation.duration_s,
        }

    async def old_reset(self) -> dict[str, Any]:
        """As the warm server's GET /reset: the next POST /speak starts a new video."""
        session_id = self._config.session_id
        await self._backend.ensure_session(session_id, "")
        answer = await self._backend.reset(session_id, delete=False)
        closed = answer.closed.uri and str(self._views.file(session_id, answer.closed.uri))
        return {"status": "ok", "video_path": closed or None}

    def _check_free(self, session_id: str) -> None:
        if self._hub.busy(session_id):  # it would wait for as long as the page is open
            raise Busy(
                f"session {session_id!r} is live in a page",
                "Speak over its live connection, or close the page",
                retry_after_s=10.0,
            )

    async def _order(self, request: Request) -> SpeakInput:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            fields = _fields(await request.body())
            return self._checked(fields, b"")
        if kind == "multipart/form-data":
            async with request.form(max_files=1, max_fields=8) as form:
                audio = form.get("audio")
                sound = await audio.read() if isinstance(audio, UploadFile) else b""
                fields = {name: value for name, value in form.items() if isinstance(value, str)}
            return self._checked(fields, sound)
        raise InvalidInput(f"the content type is {kind[:60]!r}", "Send application/json or multipart/form-data")

    def _checked(self, fields: dict[str, Any], audio: bytes) -> SpeakInput:
        named = {name: fields.get(name) or "" for name in ("session_id", "avatar_id", "text")}
        for name, value in named.items():
            if not isinstance(value, str):
                raise InvalidInput(f"{name} is not a text", "Send a string", field=name)
        if bool(named["text"]) == bool(audio):
            raise InvalidInput("there must be either a text or a sound", "Send `text` or `audio`", field="text")
        session_id = named["session_id"] or self._config.session_id
        return SpeakInput(session_id, named["avatar_id"], named["text"], audio)

    async def _events(self, order: SpeakInput) -> AsyncIterator[dict[str, Any]]:
        async for event in self._backend.speak(order.request):
            yield event_view(order.session_id, event)

    async def _say(self, order: SpeakInput) -> SpokenView:
        events = {event.WhichOneof("event"): event async for event in self._backend.speak(order.request)}
        if "clip_ready" not in events or "finished" not in events:
            raise WarmtalkError("the session service ended the stream without a result", "Its log says why")
        session = await self._backend.get_session(order.session_id)
        conversation = self._views.conversation(session, session.conversation)
        number = events["clip_ready"].clip_ready.clip.number
        clip = next((one for one in conversation.clips if one.number == number), None)
        if clip is None:
            raise WarmtalkError("the conversation was reset before the answer was sent", "Speak again")
        return SpokenView(
            session_id=order.session_id,
            clip=clip,
            conversation=conversation,
            first_frame_s=seconds(events["started"].started.delay),
            elapsed_s=seconds(events["finished"].finished.elapsed),
        )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON ({error})", 'Send {"text": "..."}') from error
    if not isinstance(fields, dict):
        raise InvalidInput("the body is not a JSON object", 'Send {"text": "..."}')
    return fields
