"""gRPC clients of the services. A gRPC error becomes the WarmtalkError that the service raised."""

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
async def prep_client(config: Config) -> AsyncIterator[PrepServiceAsyncStub]:
    """Yields a stub of the prep service; errors of calls inside the block are WarmtalkErrors."""
    with translated_errors("prep"):
        async with channel(config.prep.listen, config.api_key) as prep_channel:
            yield PrepServiceStub(prep_channel)


@asynccontextmanager
async def session_client(config: Config) -> AsyncIterator[SessionServiceAsyncStub]:
    """Yields a stub of the session service; errors of calls inside the block are WarmtalkErrors."""
    with translated_errors("session"):
        async with channel(config.session.listen, config.api_key) as session_channel:
            yield SessionServiceStub(session_channel)


@contextmanager
def translated_errors(service: str) -> Iterator[None]:
    """Raises the gRPC errors of `service` as WarmtalkErrors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error, service) from error
