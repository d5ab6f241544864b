"""The services behind the gateway, with their errors as ours."""

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

SHORT_S = 10.0
"""Deadline of calls that only read."""
LONG_S = 120.0
"""Deadline of calls that wait for their turn or for files."""


@contextmanager
def our_errors(service: str) -> Iterator[None]:
    """A gRPC error of this service is raised as the WarmtalkError that it was."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error, service) from error


class Backend:
    """Stubs and the calls that several routes make. For one event loop; nothing connects before it is used."""

    def __init__(self, config: Config) -> None:
        self._config = config
        gateway = config.gateway
        self._services = {
            "prep": (gateway.prep, "warmtalk.v1.PrepService"),
            "infer": (gateway.infer, "warmtalk.v1.InferService"),
            "session": (gateway.session, "warmtalk.v1.SessionService"),
        }
        self._links = [channel(address, config.api_key) for address in (gateway.prep, gateway.session)]
        self.prep: PrepServiceAsyncStub = PrepServiceStub(self._links[0])
        self.session: SessionServiceAsyncStub = SessionServiceStub(self._links[1])

    async def close(self) -> None:
        for link in self._links:
            await link.close()

    async def states(self) -> dict[str, str]:
        """ "up" or "down" of each service."""
        return dict(zip(self._services, await asyncio.gather(*map(_state, self._services.values())), strict=True))

    async def get_session(self, session_id: str) -> session_pb2.Session:
        with our_errors("session"):
            request = session_pb2.GetSessionRequest(session_id=session_id)
            return (await self.session.GetSession(request, timeout=SHORT_S)).session

    async def ensure_session(self, session_id: str, avatar_id: str) -> session_pb2.Session:
        """Makes the session unless it is there. Raises InvalidInput when it is there with another avatar."""
        try:
            found = await self.get_session(session_id)
        except NotFound:
            return await self.create_session(session_id, avatar_id or await self.only_avatar())
        if avatar_id and found.avatar_id != avatar_id:
            raise InvalidInput(
                f"session {session_id!r} speaks with avatar {found.avatar_id!r}, not {avatar_id!r}",
                "Name another session_id",
                field="avatar_id",
            )
        return found

    async def create_session(self, session_id: str, avatar_id: str) -> session_pb2.Session:
        with our_errors("session"):
            request = session_pb2.CreateSessionRequest(session_id=session_id, avatar_id=avatar_id)
            return (await self.session.CreateSession(request, timeout=SHORT_S)).session

    async def only_avatar(self) -> str:
        """The configured avatar, else the only one that is ready, else none."""
        if self._config.avatar_id:
            return self._config.avatar_id
        ready = [one async for one in self.avatars() if one.state == prep_pb2.Avatar.STATE_READY]
        return ready[0].avatar_id if len(ready) == 1 else ""

    async def avatars(self) -> AsyncIterator[prep_pb2.Avatar]:
        request = prep_pb2.ListAvatarsRequest(page_size=1000)
        while True:
            with our_errors("prep"):
                page = await self.prep.ListAvatars(request, timeout=SHORT_S)
            for avatar in page.avatars:
                yield avatar
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def speak(self, request: session_pb2.SpeakRequest) -> AsyncIterator[session_pb2.SpeakResponse]:
        """Events as they come. A reader that stops cancels the Speak; nothing of it is kept then."""
        call = self.session.Speak(request)
        try:
            with our_errors("session"):
                async for event in call:
                    yield event
        finally:
            call.cancel()

    async def reset(self, session_id: str, *, delete: bool) -> session_pb2.ResetResponse:
        with our_errors("session"):
            request = session_pb2.ResetRequest(session_id=session_id, delete_conversation=delete)
            return await self.session.Reset(request, timeout=LONG_S)


async def _state(service: tuple[str, str]) -> str:
    try:
        await wait_ready(*service, 0.0)
    except WarmtalkError:
        return "down"
    return "up"
