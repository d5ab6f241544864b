"""/v1/sessions: sessions and their videos; /v1/token: page tokens."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from warmtalk.core.errors import NotFound
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import READ_TIMEOUT_S, WORK_TIMEOUT_S, Backend, translated_errors
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.event_json import seconds
from warmtalk.services.gateway.route_policy import SESSION_PATH, Access, PolicyRouter
from warmtalk.services.gateway.schemas import (
    InterruptBody,
    InterruptView,
    NewSession,
    PageToken,
    ResetBody,
    ResetView,
    SessionList,
    SessionView,
    TokenBody,
)
from warmtalk.services.gateway.tokens import Tokens
from warmtalk.services.gateway.video_file import video_response
from warmtalk.services.gateway.view_builder import ViewBuilder
from warmtalk.store import checked_id
from warmtalk.v1 import session_pb2

_VIDEO: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}},
    206: {"description": "Part of the video", "content": {"video/mp4": {}}},
}


class SessionRoutes:
    """Routes of sessions; state lives in the session service, videos on the shared volume."""

    def __init__(self, backend: Backend, views: ViewBuilder, tokens: Tokens, chat: ChatClient) -> None:
        self._backend = backend
        self._views = views
        self._tokens = tokens
        self._chat = chat
        self.router = PolicyRouter("sessions")
        add = self.router.add
        add("GET", "/v1/sessions", self.list_sessions, Access.KEY, name="all")
        add("POST", "/v1/sessions", self.create, Access.PAGE, status_code=201)
        add("GET", SESSION_PATH, self.get, Access.SESSION)
        add("DELETE", SESSION_PATH, self.delete, Access.SESSION, status_code=204)
        add("POST", f"{SESSION_PATH}/reset", self.reset, Access.SESSION)
        add("POST", f"{SESSION_PATH}/interrupt", self.interrupt, Access.SESSION)
        videos: dict[str, Callable[..., Any]] = {"conversation.mp4": self.video, "clips/{number}.mp4": self.clip}
        for path, endpoint in videos.items():
            video_path = f"{SESSION_PATH}/{path}"
            add("GET", video_path, endpoint, Access.SESSION, responses=_VIDEO, response_class=Response)
            add("HEAD", video_path, endpoint, Access.SESSION, include_in_schema=False)
        add("POST", "/v1/token", self.token, Access.PAGE, tags=["page"])

    async def list_sessions(self) -> SessionList:
        """Lists all sessions, newest first."""
        request, sessions = session_pb2.ListSessionsRequest(page_size=1000), list[SessionView]()
        while True:
            with translated_errors("session"):
                page = await self._backend.session.ListSessions(request, timeout=READ_TIMEOUT_S)
            sessions += [self._views.session(session) for session in page.sessions]
            if not page.next_page_token:
                return SessionList(sessions=sessions)
            request.page_token = page.next_page_token

    async def create(self, body: NewSession, caller: Annotated[Caller, Depends(caller_of)]) -> SessionView:
        """Starts a session; a repeated request returns the existing session."""
        caller.check_session(body.session_id)
        avatar_id = body.avatar_id or await self._backend.default_avatar()
        return self._views.session(await self._backend.create_session(body.session_id, avatar_id))

    async def get(self, session_id: str) -> SessionView:
        """Returns a session with all clips."""
        return self._views.session(await self._backend.get_session(session_id))

    async def delete(self, session_id: str) -> None:
        """Removes a session with all videos."""
        self._chat.forget_session(session_id)
        with translated_errors("session"):
            request = session_pb2.DeleteSessionRequest(session_id=session_id)
            await self._backend.session.DeleteSession(request, timeout=WORK_TIMEOUT_S)

    async def reset(self, session_id: str, body: ResetBody | None = None) -> ResetView:
        """Ends the conversation and starts the next; stops a Speak under way."""
        self._chat.forget_session(session_id)
        response = await self._backend.reset(session_id, delete=bool(body and body.delete))
        closed = None
        if response.HasField("closed"):
            closed = self._views.conversation(response.session, response.closed)
        return ResetView(session=self._views.session(response.session), closed=closed)

    async def interrupt(self, session_id: str, body: InterruptBody | None = None) -> InterruptView:
        """Stops the current speech of the session and keeps the played part."""
        request = session_pb2.InterruptRequest(session_id=session_id)
        if body and body.played_s is not None:
            request.played.FromTimedelta(timedelta(seconds=body.played_s))
        with translated_errors("session"):
            response = await self._backend.session.Interrupt(request, timeout=WORK_TIMEOUT_S)
        return InterruptView(played_s=seconds(response.played) if response.HasField("played") else None)

    async def video(
        self,
        request: Request,
        session_id: str,
        number: Annotated[int, Query(ge=0, description="Number of the conversation. Default: the running one.")] = 0,
        size: Annotated[int | None, Query(ge=0, description="Only the first bytes: a view of fixed size.")] = None,
        download: bool = False,
    ) -> Response:
        """Returns the video of the conversation. Supports Range and ETag."""
        conversation = await self._conversation(session_id, number)
        name = f"{session_id}-{conversation.number}.mp4" if download else ""
        path = self._views.video_path(session_id, conversation.uri)
        return video_response(request, path, max_bytes=size, name=name)

    async def clip(
        self,
        request: Request,
        session_id: str,
        number: int,
        conversation: Annotated[int, Query(ge=0, description="Default: the running one.")] = 0,
    ) -> Response:
        """Returns the video of one clip. Supports Range and ETag."""
        found = await self._conversation(session_id, conversation)
        uri = next((clip.uri for clip in found.clips if clip.number == number), "")
        return video_response(request, self._views.video_path(session_id, uri))

    async def token(self, body: TokenBody, caller: Annotated[Caller, Depends(caller_of)]) -> PageToken:
        """Issues a short-lived token with which a page works on one session. A page renews its own token here."""
        if caller.token is not None:
            session_id = body.session_id or caller.token.session_id
            caller.check_session(session_id)
            text, token = self._tokens.issue(session_id, time.time(), caller.token.end)
        else:
            session_id = checked_id(body.session_id or f"s-{uuid.uuid4().hex[:12]}", "session_id")
            text, token = self._tokens.issue(session_id, time.time())
        return PageToken(session_id=session_id, token=text, expires_in=max(0.0, token.expires - time.time()))

    async def _conversation(self, session_id: str, number: int) -> session_pb2.Conversation:
        """Returns the conversation with that number; 0 is the running one. Raises NotFound."""
        session = await self._backend.get_session(session_id)
        for conversation in (session.conversation, *session.archived):
            if number in (0, conversation.number):
                return conversation
        raise NotFound(
            f"session {session_id!r} has no conversation {number}",
            f"GET /v1/sessions/{session_id} lists the conversations",
        )
