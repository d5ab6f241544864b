"""gRPC clients of the services behind the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from warmtalk.config import Config
from warmtalk.core.errors import InvalidInput, NotFound, WarmtalkError
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.rpc.errors import from_rpc
from warmtalk.v1 import prep_pb2, session_pb2
from warmtalk.v1.prep_pb2_grpc import PrepServiceStub
from warmtalk.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub

READ_TIMEOUT_S = 10.0
"""Deadline of calls without side effects."""
WORK_TIMEOUT_S = 120.0
"""Deadline of calls with a wait for a queue or for files."""


@contextmanager
def translated_errors(service: str) -> Iterator[None]:
    """Raises gRPC errors of `service` as the original WarmtalkError."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error, service) from error


class Backend:
    """Stubs of the services, and the calls shared by several routes.

    For one event loop. Channels connect on first use.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        gateway = config.gateway
        self._services = {
            "prep": (gateway.prep, "warmtalk.v1.PrepService"),
            "infer": (gateway.infer, "warmtalk.v1.InferService"),
            "session": (gateway.session, "warmtalk.v1.SessionService"),
        }
        self._channels = [channel(address, config.api_key) for address in (gateway.prep, gateway.session)]
        self.prep: PrepServiceAsyncStub = PrepServiceStub(self._channels[0])
        self.session: SessionServiceAsyncStub = SessionServiceStub(self._channels[1])

    async def close(self) -> None:
        """Closes the channels and cancels their calls."""
        for connection in self._channels:
            await connection.close()

    async def service_states(self) -> dict[str, str]:
        """Returns "up" or "down" for each service by name."""
        states = await asyncio.gather(*map(_service_state, self._services.values()))
        return dict(zip(self._services, states, strict=True))

    async def get_session(self, session_id: str) -> session_pb2.Session:
        """Returns a session. Raises NotFound."""
        with translated_errors("session"):
            request = session_pb2.GetSessionRequest(session_id=session_id)
            return (await self.session.GetSession(request, timeout=READ_TIMEOUT_S)).session

    async def ensure_session(self, session_id: str, avatar_id: str) -> session_pb2.Session:
        """Returns the session, created if missing. Raises InvalidInput if the session has another avatar."""
        try:
            session = await self.get_session(session_id)
        except NotFound:
            return await self.create_session(session_id, avatar_id or await self.default_avatar())
        if avatar_id and session.avatar_id != avatar_id:
            raise InvalidInput(
                f"session {session_id!r} speaks with avatar {session.avatar_id!r}, not {avatar_id!r}",
                "Use another session_id for another avatar",
                field="avatar_id",
            )
        return session

    async def create_session(self, session_id: str, avatar_id: str) -> session_pb2.Session:
        """Returns the new session, or the existing one for the same ids; an empty id lets the service choose."""
        with translated_errors("session"):
            request = session_pb2.CreateSessionRequest(session_id=session_id, avatar_id=avatar_id)
            return (await self.session.CreateSession(request, timeout=READ_TIMEOUT_S)).session

    async def default_avatar(self) -> str:
        """Returns the configured avatar's id, else the id of the only ready avatar, else an empty string."""
        if self._config.avatar_id:
            return self._config.avatar_id
        ready = [avatar async for avatar in self.list_avatars() if avatar.state == prep_pb2.Avatar.STATE_READY]
        return ready[0].avatar_id if len(ready) == 1 else ""

    async def list_avatars(self) -> AsyncIterator[prep_pb2.Avatar]:
        """Yields all avatars by id, page by page."""
        request = prep_pb2.ListAvatarsRequest(page_size=1000)
        while True:
            with translated_errors("prep"):
                page = await self.prep.ListAvatars(request, timeout=READ_TIMEOUT_S)
            for avatar in page.avatars:
                yield avatar
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def speak(self, request: session_pb2.SpeakRequest) -> AsyncIterator[session_pb2.SpeakResponse]:
        """Yields the events of a Speak. Closing the iterator early cancels the Speak, which then leaves no clip."""
        call = self.session.Speak(request)
        try:
            with translated_errors("session"):
                async for event in call:
                    yield event
        finally:
            call.cancel()

    async def reset(self, session_id: str, *, delete: bool) -> session_pb2.ResetResponse:
        """Ends the session's conversation, which is kept as archived or deleted, and starts the next."""
        with translated_errors("session"):
            request = session_pb2.ResetRequest(session_id=session_id, delete_conversation=delete)
            return await self.session.Reset(request, timeout=WORK_TIMEOUT_S)


async def _service_state(service: tuple[str, str]) -> str:
    try:
        await wait_ready(*service, 0.0)
    except WarmtalkError:
        return "down"
    return "up"
