"""/v1/sessions: the sessions, their videos, and tokens for pages."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from warmtalk.core.errors import NotFound
from warmtalk.services.gateway import video_file
from warmtalk.services.gateway.access import Caller, caller_of
from warmtalk.services.gateway.backend import LONG_S, SHORT_S, Backend, our_errors
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.schemas import ResetView, SessionList, SessionView, Views, seconds
from warmtalk.services.gateway.tokens import Tokens
from warmtalk.store import checked_id
from warmtalk.v1 import session_pb2

_VIDEO: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}},
    206: {"description": "A part", "content": {"video/mp4": {}}},
}


class NewSession(BaseModel):
    session_id: str = Field("", description="Default: made by the server.")
    avatar_id: str = Field("", description="Default: the configured one, or the only one there is.")


class ResetBody(BaseModel):
    delete: bool = Field(False, description="Delete the conversation that ends instead of keeping it.")


class InterruptBody(BaseModel):
    played_s: float | None = Field(None, ge=0, description="What was really played; the clip is cut there.")


class InterruptView(BaseModel):
    played_s: float | None = Field(description="How much of the utterance is kept; null when nothing was being said.")


class TokenBody(BaseModel):
    session_id: str = Field("", description="Session that the token opens. Default: a new id.")


class PageToken(BaseModel):
    """For a page: `/?session=ID#token=TOKEN`."""

    session_id: str
    token: str
    expires_in: float = Field(description="Seconds. POST /v1/token with the token itself renews it.")


class SessionRoutes:
    def __init__(self, backend: Backend, views: Views, tokens: Tokens, partner: ChatClient) -> None:
        self._backend = backend
        self._views = views
        self._tokens = tokens
        self._partner = partner
        self.router = APIRouter(tags=["sessions"])
        add, one = self.router.add_api_route, "/v1/sessions/{session_id}"
        add("/v1/sessions", self.all, methods=["GET"])
        add("/v1/sessions", self.create, methods=["POST"], status_code=201)
        add(one, self.get, methods=["GET"])
        add(one, self.delete, methods=["DELETE"], status_code=204)
        add(f"{one}/reset", self.reset, methods=["POST"])
        add(f"{one}/interrupt", self.interrupt, methods=["POST"])
        for path, answer in ((f"{one}/conversation.mp4", self.video), (f"{one}/clips/{{number}}.mp4", self.clip)):
            add(path, answer, methods=["GET"], responses=_VIDEO, response_class=Response)
            add(path, answer, methods=["HEAD"], include_in_schema=False)
        add("/v1/token", self.token, methods=["POST"], tags=["page"])

    async def all(self) -> SessionList:
        """All sessions, the newest first."""
        request, found = session_pb2.ListSessionsRequest(page_size=1000), list[SessionView]()
        while True:
            with our_errors("session"):
                page = await self._backend.session.ListSessions(request, timeout=SHORT_S)
            found += [self._views.session(one) for one in page.sessions]
            if not page.next_page_token:
                return SessionList(sessions=found)
            request.page_token = page.next_page_token

    async def create(self, body: NewSession, caller: Annotated[Caller, Depends(caller_of)]) -> SessionView:
        """Starts a session; the same request again returns the one that is there."""
        caller.check(body.session_id)
        avatar_id = body.avatar_id or await self._backend.only_avatar()
        return self._views.session(await self._backend.create_session(body.session_id, avatar_id))

    async def get(self, session_id: str) -> SessionView:
        """One session with its clips."""
        return self._views.session(await self._backend.get_session(session_id))

    async def delete(self, session_id: str) -> None:
        """Removes a session and its videos."""
        self._partner.forget(session_id)
        with our_errors("session"):
            request = session_pb2.DeleteSessionRequest(session_id=session_id)
            await self._backend.session.DeleteSession(request, timeout=LONG_S)

    async def reset(self, session_id: str, body: ResetBody | None = None) -> ResetView:
        """Closes the conversation and starts the next; ends a Speak under way."""
        self._partner.forget(session_id)
        answer = await self._backend.reset(session_id, delete=bool(body and body.delete))
        closed = self._views.conversation(answer.session, answer.closed) if answer.HasField("closed") else None
        return ResetView(session=self._views.session(answer.session), closed=closed)

    async def interrupt(self, session_id: str, body: InterruptBody | None = None) -> InterruptView:
        """Stops what the session is saying and keeps what was played."""
        request = session_pb2.InterruptRequest(session_id=session_id)
        if body and body.played_s is not None:
            request.played.FromTimedelta(timedelta(seconds=body.played_s))
        with our_errors("session"):
            answer = await self._backend.session.Interrupt(request, timeout=LONG_S)
        return InterruptView(played_s=seconds(answer.played) if answer.HasField("played") else None)

    async def video(
        self,
        request: Request,
        session_id: str,
        number: Annotated[int, Query(ge=0, description="Conversation. Default: the running one.")] = 0,
        size: Annotated[int | None, Query(ge=0, description="Only the first bytes: a view that does not grow.")] = None,
        download: bool = False,
    ) -> Response:
        """The conversation's video. Range and ETag work."""
        one = await self._conversation(session_id, number)
        name = f"{session_id}-{one.number}.mp4" if download else ""
        return video_file.video(request, self._views.file(session_id, one.uri), most=size, name=name)

    async def clip(
        self,
        request: Request,
        session_id: str,
        number: int,
        conversation: Annotated[int, Query(ge=0, description="Default: the running one.")] = 0,
    ) -> Response:
        """One clip's video."""
        one = await self._conversation(session_id, conversation)
        uri = next((clip.uri for clip in one.clips if clip.number == number), "")
        return video_file.video(request, self._views.file(session_id, uri))

    async def token(self, body: TokenBody, caller: Annotated[Caller, Depends(caller_of)]) -> PageToken:
        """A short-lived token for one session, to give to a page; with a token it is renewed, for the same session."""
        if caller.token is not None:
            session_id = body.session_id or caller.token.session_id
            caller.check(session_id)
            text, token = self._tokens.issue(session_id, time.time(), caller.token.end)
        else:
            session_id = checked_id(body.session_id or f"s-{uuid.uuid4().hex[:12]}", "session_id")
            text, token = self._tokens.issue(session_id, time.time())
        return PageToken(session_id=session_id, token=text, expires_in=max(0.0, token.expires - time.time()))

    async def _conversation(self, session_id: str, number: int) -> session_pb2.Conversation:
        session = await self._backend.get_session(session_id)
        for one in (session.conversation, *session.archived):
            if number in (0, one.number):
                return one
        raise NotFound(f"session {session_id!r} has no conversation {number}", "GET the session lists them")
