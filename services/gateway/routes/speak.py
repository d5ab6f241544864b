"""POST /v1/speak, and the older routes POST /speak and GET /reset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from warmtalk.config import GatewayConfig
from warmtalk.core.errors import Busy, InvalidInput, WarmtalkError
from warmtalk.services.gateway import event_stream
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.event_json import event_object, seconds
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.route_policy import FORM_OVERHEAD_BYTES, Access, PolicyRouter
from warmtalk.services.gateway.schemas import LegacySpeakBody, SpokenView
from warmtalk.services.gateway.view_builder import ViewBuilder
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
                        "session_id": {
                            "type": "string",
                            "description": "Created if missing. Default: the configured session.",
                        },
                        "avatar_id": {
                            "type": "string",
                            "description": "Avatar of a new session. Default: the configured avatar.",
                        },
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
    """Parsed body of POST /v1/speak: either text or the bytes of an audio file. An empty avatar id is the default."""

    session_id: str
    avatar_id: str
    text: str
    audio: bytes

    @property
    def request(self) -> session_pb2.SpeakRequest:
        """The request to the session service."""
        if self.audio:
            return session_pb2.SpeakRequest(session_id=self.session_id, audio=self.audio)
        return session_pb2.SpeakRequest(session_id=self.session_id, text=self.text)


class SpeakRoutes:
    """Routes that make one clip per request."""

    def __init__(
        self, backend: Backend, views: ViewBuilder, streams: LiveStreamRegistry, config: GatewayConfig
    ) -> None:
        self._backend = backend
        self._views = views
        self._streams = streams
        self._config = config
        self.router = PolicyRouter("speak")
        self.router.add(
            "POST",
            "/v1/speak",
            self.speak,
            Access.PAGE,
            max_body_bytes=(config.max_audio_mb << 20) + FORM_OVERHEAD_BYTES,
            response_model=SpokenView,
            openapi_extra=_BODY,
        )
        self.router.add("POST", "/speak", self.legacy_speak, Access.KEY, name="old_speak")
        self.router.add("GET", "/reset", self.legacy_reset, Access.KEY, name="old_reset")

    async def speak(self, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> SpokenView | Response:
        """Speaks a text or an audio file; answers when the clip is in the conversation.

        With `Accept: text/event-stream` or `application/x-ndjson` the response starts at once and streams the events:
        accepted, started, progress ..., clip_ready, conversation_updated, finished (or error). A disconnect cancels
        the Speak.
        """
        speak_input = await self._parse(request)
        caller.check_session(speak_input.session_id)
        self._check_not_live(speak_input.session_id)
        await self._backend.ensure_session(speak_input.session_id, speak_input.avatar_id)
        if media_type := event_stream.accepted_type(request):
            return await event_stream.event_response(media_type, self._events(speak_input))
        return await event_stream.run_while_connected(request, self._speak(speak_input))

    async def legacy_speak(self, request: Request, body: LegacySpeakBody) -> dict[str, Any]:
        """Compatible with the warm server's POST /speak: takes {"text": ...}, returns the path of the conversation's
        video.
        """
        session_id = self._config.session_id
        self._check_not_live(session_id)
        await self._backend.ensure_session(session_id, "")
        speak_input = SpeakInput(session_id, "", body.text, b"")
        spoken = await event_stream.run_while_connected(request, self._speak(speak_input))
        session = await self._backend.get_session(session_id)
        return {
            "status": "ok",
            "video_path": str(self._views.video_path(session_id, session.conversation.uri)),
            "video_url": spoken.conversation.url,
            "clip_path": str(self._views.video_path(session_id, session.conversation.clips[-1].uri)),
            "clip_url": spoken.clip.url,
            "duration": spoken.conversation.duration_s,
        }

    async def legacy_reset(self) -> dict[str, Any]:
        """Compatible with the warm server's GET /reset: the next POST /speak starts a new video."""
        session_id = self._config.session_id
        await self._backend.ensure_session(session_id, "")
        response = await self._backend.reset(session_id, delete=False)
        closed = response.closed.uri and str(self._views.video_path(session_id, response.closed.uri))
        return {"status": "ok", "video_path": closed or None}

    def _check_not_live(self, session_id: str) -> None:
        """Raises Busy while a page is open on the session: the Speak would wait until the page is closed."""
        if self._streams.running_stream(session_id):
            raise Busy(
                f"session {session_id!r} is live in a page",
                "Speak over its live connection, or close the page",
                retry_after_s=10.0,
            )

    async def _parse(self, request: Request) -> SpeakInput:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json":
            return self._validated(_json_object(await request.body()), b"")
        if content_type == "multipart/form-data":
            async with request.form(max_files=1, max_fields=8) as form:
                file = form.get("audio")
                audio = await file.read() if isinstance(file, UploadFile) else b""
                fields = {name: value for name, value in form.items() if isinstance(value, str)}
            return self._validated(fields, audio)
        raise InvalidInput(f"the content type is {content_type[:60]!r}", "Send application/json or multipart/form-data")

    def _validated(self, fields: dict[str, Any], audio: bytes) -> SpeakInput:
        texts = {name: fields.get(name) or "" for name in ("session_id", "avatar_id", "text")}
        for name, value in texts.items():
            if not isinstance(value, str):
                raise InvalidInput(f"{name} is not a string", "Send a string", field=name)
        if bool(texts["text"]) == bool(audio):
            raise InvalidInput("either text or audio is needed", "Send `text` or `audio`", field="text")
        session_id = texts["session_id"] or self._config.session_id
        return SpeakInput(session_id, texts["avatar_id"], texts["text"], audio)

    async def _events(self, speak_input: SpeakInput) -> AsyncIterator[dict[str, Any]]:
        async for event in self._backend.speak(speak_input.request):
            yield event_object(speak_input.session_id, event)

    async def _speak(self, speak_input: SpeakInput) -> SpokenView:
        events = {event.WhichOneof("event"): event async for event in self._backend.speak(speak_input.request)}
        if "clip_ready" not in events or "finished" not in events:
            raise WarmtalkError("the session service ended the stream without a result", "See its log for the cause")
        session = await self._backend.get_session(speak_input.session_id)
        conversation = self._views.conversation(session, session.conversation)
        number = events["clip_ready"].clip_ready.clip.number
        clip = next((clip for clip in conversation.clips if clip.number == number), None)
        if clip is None:
            raise WarmtalkError("the conversation was reset before the answer was sent", "Speak again")
        return SpokenView(
            session_id=speak_input.session_id,
            clip=clip,
            conversation=conversation,
            first_frame_s=seconds(events["started"].started.delay),
            elapsed_s=seconds(events["finished"].finished.elapsed),
        )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON ({error})", 'Send {"text": "..."}') from error
    if not isinstance(fields, dict):
        raise InvalidInput("the body is not a JSON object", 'Send {"text": "..."}')
    return fields
