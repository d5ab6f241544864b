"""Calls to the services, with their errors as ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import grpc

from warmtalk.config import Config
from warmtalk.rpc.client import channel
from warmtalk.rpc.errors import from_rpc
from warmtalk.v1.prep_pb2_grpc import PrepServiceStub
from warmtalk.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:  # these classes exist for the type checker alone
    from warmtalk.v1.prep_pb2_grpc import PrepServiceAsyncStub
    from warmtalk.v1.session_pb2_grpc import SessionServiceAsyncStub


@asynccontextmanager
async def prep(config: Config) -> AsyncIterator[PrepServiceAsyncStub]:
    with our_errors("prep"):
        async with channel(config.prep.listen, config.api_key) as link:
            yield PrepServiceStub(link)


@asynccontextmanager
async def session(config: Config) -> AsyncIterator[SessionServiceAsyncStub]:
    with our_errors("session"):
        async with channel(config.session.listen, config.api_key) as link:
            yield SessionServiceStub(link)


@contextmanager
def our_errors(service: str) -> Iterator[None]:
    """A gRPC error of this service is raised as the WarmtalkError that it was."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error, service) from error
