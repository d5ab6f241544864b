"""API key over gRPC: real servers, calls of all four kinds, with and without the key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from tests.fakes import FakeInfer, FakeVoice, make_avatar, serve_infer
from warmtalk.cli import clients
from warmtalk.config import Config, InferConfig, PrepConfig, SessionConfig
from warmtalk.core.errors import InvalidInput, Unreachable
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.rpc.errors import from_rpc
from warmtalk.rpc.server import Server
from warmtalk.services.infer import wiring as infer
from warmtalk.services.prep import wiring as prep
from warmtalk.services.session import wiring as session
from warmtalk.v1 import prep_pb2, prep_pb2_grpc, session_pb2, session_pb2_grpc

KEY = "a-key-of-ours"
WRONG: list[tuple[tuple[str, str], ...]] = [
    (),
    (("x-internal-api-key", "another"),),
    (("x-internal-api-key", ""),),
    (("x-internal-api-key", KEY + "x"),),
    (("authorization", f"Basic {KEY}"),),
    (("authorization", KEY),),
    (("key", KEY),),
]
RIGHT: list[tuple[tuple[str, str], ...]] = [
    (("x-internal-api-key", KEY),),
    (("authorization", f"Bearer {KEY}"),),
    (("authorization", f"bearer  {KEY}"),),
    (("authorization", "Bearer another"), ("x-internal-api-key", KEY)),
]


@dataclass
class Place:
    prep: str
    session: str
    infer: str


async def serve(folder: Path, stack: AsyncExitStack, *, session_key: str = KEY) -> Place:
    """Starts a real prep service, a real session service and a fake infer service, all with the key."""
    make_avatar(folder / "avatars")
    behind = await serve_infer(FakeInfer(), api_key=KEY)
    stack.push_async_callback(behind.stop, 0)
    config = Config(data_dir=folder, api_key=KEY, prep=PrepConfig(listen="127.0.0.1:0"))
    server, jobs = prep.build(config)
    jobs.start()
    stack.callback(jobs.close)
    await server.start()
    await server.ready()
    stack.push_async_callback(server.stop, 0)
    settings = SessionConfig(listen="127.0.0.1:0", infer=behind.address, x264_preset="ultrafast")
    parts = session.build(Config(data_dir=folder, api_key=session_key, session=settings), FakeVoice())
    await parts.start()
    stack.push_async_callback(parts.close)
    stack.push_async_callback(parts.server.stop, 0)
    return Place(server.address, parts.server.address, behind.address)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield await serve(tmp_path, stack)


async def pieces(count: int) -> AsyncIterator[prep_pb2.UploadSourceRequest]:
    yield prep_pb2.UploadSourceRequest(header=prep_pb2.UploadHeader(file_name="a.png"))
    for _ in range(count):
        yield prep_pb2.UploadSourceRequest(data=b"x" * (256 << 10))


async def config_and_silence() -> AsyncIterator[session_pb2.ConverseRequest]:
    yield session_pb2.ConverseRequest(config=session_pb2.ConverseConfig(session_id="s1"))
    await asyncio.Event().wait()


async def every_kind(place: Place, metadata: Any) -> dict[str, grpc.aio.AioRpcError]:
    """Calls one RPC of each kind. Returns the errors by kind."""
    found = {}
    async with channel(place.prep) as first, channel(place.session) as second:
        prep_stub: Any = prep_pb2_grpc.PrepServiceStub(first)
        session_stub: Any = session_pb2_grpc.SessionServiceStub(second)
        request = prep_pb2.WatchAvatarRequest(avatar_id="nobody")
        works = {
            "unary": prep_stub.GetAvatar(prep_pb2.GetAvatarRequest(avatar_id="nobody"), metadata=metadata),
            "streamed answer": last(prep_stub.WatchAvatar(request, metadata=metadata)),
            "streamed request": prep_stub.UploadSource(pieces(40), metadata=metadata),
            "both": last(session_stub.Converse(config_and_silence(), metadata=metadata)),
        }
        for kind, work in works.items():
            async with asyncio.timeout(10):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await work
            found[kind] = caught.value
    return found


async def last(answers: AsyncIterator[Any]) -> None:
    async for _ in answers:
        pass


@pytest.mark.parametrize("metadata", WRONG)
async def test_calls_of_every_kind_are_refused_without_the_key(place: Place, metadata: Any) -> None:
    for kind, error in (await every_kind(place, metadata)).items():
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, kind
        status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()  # type: ignore[arg-type]
        assert status
        assert any(detail.Unpack(info) for detail in status.details)
        assert (info.reason, info.domain) == ("UNAUTHENTICATED", "warmtalk")
        assert "WARMTALK_API_KEY" in info.metadata["hint"]
        assert KEY not in (error.details() or "")


@pytest.mark.parametrize("metadata", RIGHT)
async def test_calls_with_the_key_reach_the_service(place: Place, metadata: Any) -> None:
    codes = {kind: error.code() for kind, error in (await every_kind(place, metadata)).items()}
    assert codes == {
        "unary": grpc.StatusCode.NOT_FOUND,
        "streamed answer": grpc.StatusCode.NOT_FOUND,
        "streamed request": grpc.StatusCode.INVALID_ARGUMENT,  # the upload is no image
        "both": grpc.StatusCode.NOT_FOUND,
    }


async def test_a_client_with_an_endless_upload_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmtalk.rpc.auth._DRAIN_S", 0.3)
    async with channel(place.session) as link:
        stub: Any = session_pb2_grpc.SessionServiceStub(link)
        call = stub.Converse()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            async with asyncio.timeout(10):
                while True:
                    await call.write(session_pb2.ConverseRequest(text="word "))
        assert await call.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL)


async def test_health_is_open_and_reflection_is_not(place: Place) -> None:
    await wait_ready(place.prep, prep.SERVICE, 0.0)
    async with channel(place.prep) as link:
        health = health_pb2_grpc.HealthStub(link)
        watched = await anext(aiter(health.Watch(health_pb2.HealthCheckRequest())))  # type: ignore[attr-defined]
        assert watched.status == health_pb2.HealthCheckResponse.SERVING
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    for key, wanted in ((KEY, None), ("", grpc.StatusCode.UNAUTHENTICATED), ("x", grpc.StatusCode.UNAUTHENTICATED)):
        async with channel(place.prep, key) as link:
            stub = reflection_pb2_grpc.ServerReflectionStub(link)
            try:
                names = [one.name async for got in stub.ServerReflectionInfo(iter([request]))
                         for one in got.list_services_response.service]  # fmt: skip
                assert (wanted, prep.SERVICE in names) == (None, True)
            except grpc.aio.AioRpcError as error:
                assert error.code() is wanted


async def test_a_conversation_goes_through_all_services_with_the_key(place: Place) -> None:
    async with channel(place.session, KEY) as link:
        stub: Any = session_pb2_grpc.SessionServiceStub(link)
        await stub.CreateSession(session_pb2.CreateSessionRequest(session_id="s1", avatar_id="ann"))
        spoken = [
            one.WhichOneof("event") async for one in stub.Speak(session_pb2.SpeakRequest(session_id="s1", text="Hi."))
        ]
        assert spoken[-1] == "finished"
        call = stub.Converse()
        await call.write(session_pb2.ConverseRequest(config=session_pb2.ConverseConfig(session_id="s1")))
        await call.write(session_pb2.ConverseRequest(text="Hello there."))
        await call.done_writing()
        kinds = [one.event.WhichOneof("event") async for one in call]
        assert (kinds[0], "finished" in kinds) == ("opened", True)
        assert (
            len((await stub.GetSession(session_pb2.GetSessionRequest(session_id="s1"))).session.conversation.clips) == 2
        )


async def test_services_with_different_keys_say_so(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        place = await serve(tmp_path, stack, session_key="another")
        link = await stack.enter_async_context(channel(place.session, "another"))
        stub: Any = session_pb2_grpc.SessionServiceStub(link)
        await stub.CreateSession(session_pb2.CreateSessionRequest(session_id="s1", avatar_id="ann"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await last(stub.Speak(session_pb2.SpeakRequest(session_id="s1", text="Hi.")))
    error = from_rpc(caught.value, "session")
    assert isinstance(error, Unreachable)
    assert error.message == "the infer service refuses us: the API key is wrong"
    assert "the same api_key" in error.hint


async def test_the_command_line_sends_the_key(place: Place) -> None:
    config = Config(api_key=KEY, prep=PrepConfig(listen=place.prep), session=SessionConfig(listen=place.session))
    async with clients.prep_client(config) as stub:
        listed = await stub.ListAvatars(prep_pb2.ListAvatarsRequest())
        assert [one.avatar_id for one in listed.avatars] == ["ann"]
    async with clients.session_client(config) as sessions:
        assert not (await sessions.ListSessions(session_pb2.ListSessionsRequest())).sessions
    with pytest.raises(Unreachable, match="the prep service refuses us: this needs the API key"):
        async with clients.prep_client(Config(prep=PrepConfig(listen=place.prep))) as stub:
            await stub.ListAvatars(prep_pb2.ListAvatarsRequest())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "some-box:0"])
async def test_no_service_listens_on_the_network_without_a_key(tmp_path: Path, listen: str) -> None:
    config = Config(
        data_dir=tmp_path,
        prep=PrepConfig(listen=listen),
        infer=InferConfig(listen=listen),
        session=SessionConfig(listen=listen),
    )
    for build in (prep.build, infer.build, session.build):
        with pytest.raises(InvalidInput, match=r"there is no API key.*WARMTALK_API_KEY"):
            build(config)  # type: ignore[operator]


def test_an_address_without_a_host_is_refused() -> None:
    """gRPC would listen on all interfaces."""
    with pytest.raises(InvalidInput, match="Write host:port"):
        Config(prep=PrepConfig(listen=":0"))


async def test_on_loopback_and_sockets_no_key_is_needed_and_beyond_it_a_key_is_enough(tmp_path: Path) -> None:
    for listen in ("127.0.0.1:0", "localhost:0", "127.0.0.2:0", f"unix:{tmp_path}/socket"):
        await Server(listen, prep.SERVICE).stop(0)
    await Server("0.0.0.0:0", prep.SERVICE, api_key=KEY).stop(0)


def test_a_key_with_characters_invalid_in_headers_is_refused() -> None:
    for bad in ("two words", "schlüssel", "a\nb"):
        with pytest.raises(InvalidInput, match="openssl rand"):
            Config(api_key=bad)
