"""SessionService: messages to calls on the sessions and back. Nothing else."""

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
from warmtalk.v1 import session_pb2, session_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_PAGE = 100
_MOST_PAGE = 1000
_HIGHEST_FPS = 60


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def CreateSession(  # noqa: N802 - named by the proto
        self, request: session_pb2.CreateSessionRequest, context: Context
    ) -> session_pb2.CreateSessionResponse:
        given = request.HasField("frame_rate") and request.frame_rate.numerator
        fps = convert.frame_rate(request.frame_rate, Fraction(25), highest=_HIGHEST_FPS) if given else None
        folder = await self._sessions.create(request.session_id, request.avatar_id, fps)
        return session_pb2.CreateSessionResponse(session=messages.session(folder, speaking=False))

    async def GetSession(  # noqa: N802
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        folder, speaking = self._sessions.get(request.session_id)
        return session_pb2.GetSessionResponse(session=messages.session(folder, speaking=speaking))

    async def ListSessions(  # noqa: N802
        self, request: session_pb2.ListSessionsRequest, context: Context
    ) -> session_pb2.ListSessionsResponse:
        size = request.page_size or _PAGE
        if not 1 <= size <= _MOST_PAGE:
            raise InvalidInput(f"page_size is {size}", f"Use 1 to {_MOST_PAGE}", field="page_size")
        found = self._sessions.all()
        if request.page_token:
            after = messages.page_place(request.page_token)
            found = [one for one in found if messages.place(one[0]) < after]
        page = [messages.session(folder, speaking=speaking) for folder, speaking in found[:size]]
        token = messages.page_token(found[size - 1][0]) if len(found) > size else ""
        return session_pb2.ListSessionsResponse(sessions=page, next_page_token=token)

    async def DeleteSession(  # noqa: N802
        self, request: session_pb2.DeleteSessionRequest, context: Context
    ) -> session_pb2.DeleteSessionResponse:
        await self._sessions.delete(request.session_id)
        return session_pb2.DeleteSessionResponse()

    async def Reset(  # noqa: N802
        self, request: session_pb2.ResetRequest, context: Context
    ) -> session_pb2.ResetResponse:
        folder, closed = await self._sessions.reset(request.session_id, delete=request.delete_conversation)
        response = session_pb2.ResetResponse(session=messages.session(folder, speaking=False))
        if closed is not None:
            response.closed.CopyFrom(messages.conversation(folder, closed))
        return response

    async def Interrupt(  # noqa: N802
        self, request: session_pb2.InterruptRequest, context: Context
    ) -> session_pb2.InterruptResponse:
        told = request.played.ToTimedelta().total_seconds() if request.HasField("played") else None
        kept = await self._sessions.interrupt(request.session_id, told)
        if kept is None:
            return session_pb2.InterruptResponse()
        return session_pb2.InterruptResponse(played=messages.duration(kept))

    async def Converse(  # noqa: N802
        self, requests: AsyncIterator[session_pb2.ConverseRequest], context: Context
    ) -> AsyncIterator[session_pb2.ConverseResponse]:
        settings = await converse.read_settings(requests)
        stream = self._sessions.converse(settings.session_id, fragment_s=settings.fragment_s, idle=settings.idle)
        close_on_disconnect(context, stream)
        reader = asyncio.create_task(converse.read_requests(requests, stream, settings))
        try:
            async with aclosing(stream.events()) as events:
                async for event in events:
                    yield session_pb2.ConverseResponse(event=messages.speak_response(stream.folder, event))
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
                raise InvalidInput("there is neither text nor audio", "Send a text or a sound", field="text")
        utterance = self._sessions.speak(request.session_id, text=request.text, audio=request.audio)
        close_on_disconnect(context, utterance)
        try:
            async with aclosing(utterance.events()) as events:
                async for event in events:
                    yield messages.speak_response(utterance.folder, event)
        finally:
            utterance.close()
