"""SessionService: converts messages to calls on the sessions and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from fractions import Fraction
from typing import Any

import grpc

from warmtalk.core.errors import InvalidInput
from warmtalk.rpc import convert
from warmtalk.rpc.disconnect import close_on_disconnect
from warmtalk.services.session import converse, messages
from warmtalk.services.session.sessions import Sessions
from warmtalk.services.session.speech_control import SpeechControl
from warmtalk.v1 import session_pb2, session_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000
_MAX_FPS = 60


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """gRPC adapter of Sessions and SpeechControl; holds no state."""

    def __init__(self, sessions: Sessions, speech: SpeechControl) -> None:
        self._sessions = sessions
        self._speech = speech

    async def CreateSession(  # noqa: N802 - named by the proto
        self, request: session_pb2.CreateSessionRequest, context: Context
    ) -> session_pb2.CreateSessionResponse:
        has_rate = request.HasField("frame_rate") and request.frame_rate.numerator
        fps = convert.frame_rate(request.frame_rate, Fraction(25), highest=_MAX_FPS) if has_rate else None
        files = await self._sessions.create(request.session_id, request.avatar_id, fps)
        return session_pb2.CreateSessionResponse(session=messages.session(files, speaking=False))

    async def GetSession(  # noqa: N802
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        state = self._sessions.find(request.session_id)
        return session_pb2.GetSessionResponse(session=messages.session(state.files, speaking=state.speaking))

    async def ListSessions(  # noqa: N802
        self, request: session_pb2.ListSessionsRequest, context: Context
    ) -> session_pb2.ListSessionsResponse:
        size = request.page_size or _DEFAULT_PAGE_SIZE
        if not 1 <= size <= _MAX_PAGE_SIZE:
            raise InvalidInput(f"page_size is {size}", f"Use 1 to {_MAX_PAGE_SIZE}", field="page_size")
        states = self._sessions.newest_first()
        if request.page_token:
            after = messages.parse_page_token(request.page_token)
            states = [state for state in states if messages.sort_key(state.files) < after]
        page = [messages.session(state.files, speaking=state.speaking) for state in states[:size]]
        token = messages.page_token(states[size - 1].files) if len(states) > size else ""
        return session_pb2.ListSessionsResponse(sessions=page, next_page_token=token)

    async def DeleteSession(  # noqa: N802
        self, request: session_pb2.DeleteSessionRequest, context: Context
    ) -> session_pb2.DeleteSessionResponse:
        await self._sessions.delete(request.session_id)
        return session_pb2.DeleteSessionResponse()

    async def Reset(  # noqa: N802
        self, request: session_pb2.ResetRequest, context: Context
    ) -> session_pb2.ResetResponse:
        files, closed = await self._sessions.reset(request.session_id, delete=request.delete_conversation)
        response = session_pb2.ResetResponse(session=messages.session(files, speaking=False))
        if closed is not None:
            response.closed.CopyFrom(messages.conversation(files, closed))
        return response

    async def Interrupt(  # noqa: N802
        self, request: session_pb2.InterruptRequest, context: Context
    ) -> session_pb2.InterruptResponse:
        played_s = request.played.ToTimedelta().total_seconds() if request.HasField("played") else None
        kept_s = await self._speech.interrupt(request.session_id, played_s)
        if kept_s is None:
            return session_pb2.InterruptResponse()
        return session_pb2.InterruptResponse(played=messages.duration(kept_s))

    async def Converse(  # noqa: N802
        self, requests: AsyncIterator[session_pb2.ConverseRequest], context: Context
    ) -> AsyncIterator[session_pb2.ConverseResponse]:
        settings = await converse.read_settings(requests)
        stream = self._speech.converse(settings.session_id, fragment_s=settings.fragment_s, idle=settings.idle)
        close_on_disconnect(context, stream)
        reader = asyncio.create_task(converse.read_requests(requests, stream, settings))
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    yield session_pb2.ConverseResponse(event=messages.speak_response(stream.files, event))
        finally:
            reader.cancel()
            stream.close()

    async def Speak(  # noqa: N802
        self, request: session_pb2.SpeakRequest, context: Context
    ) -> AsyncIterator[session_pb2.SpeakResponse]:
        match request.WhichOneof("input"):
            case "audio" if not request.audio:
                raise InvalidInput("audio is empty", "Send a wav, mp3, flac or ogg file", field="audio")
            case None:
                raise InvalidInput("the request has neither text nor audio", "Send one of them", field="text")
        utterance = self._speech.speak(request.session_id, text=request.text, audio=request.audio)
        close_on_disconnect(context, utterance)
        try:
            async with aclosing(utterance.events()) as events:
                async for event in events:
                    yield messages.speak_response(utterance.files, event)
        finally:
            utterance.close()
