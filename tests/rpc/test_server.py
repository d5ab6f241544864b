"""Common behaviour of all servers: health, reflection, errors with reasons, no internal texts on the wire, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from warmtalk.core import errors
from warmtalk.rpc.client import channel, wait_ready
from warmtalk.rpc.errors import from_rpc
from warmtalk.rpc.server import Server
from warmtalk.v1 import infer_pb2, infer_pb2_grpc

SERVICE = "warmtalk.v1.InferService"


class Failing(infer_pb2_grpc.InferServiceServicer):
    """Raises `error` in every RPC."""

    error: Exception = errors.NotFound("there is no avatar 'x'", "Make it")

    async def GetCapacity(self, request: Any, context: Any) -> infer_pb2.GetCapacityResponse:  # noqa: N802
        raise self.error

    async def Render(self, requests: Any, context: Any) -> AsyncIterator[infer_pb2.RenderResponse]:  # noqa: N802
        yield infer_pb2.RenderResponse()
        raise self.error


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Failing]]:
    one = Server("127.0.0.1:0", SERVICE)
    servicer = Failing()
    infer_pb2_grpc.add_InferServiceServicer_to_server(servicer, one.grpc)
    await one.start()
    yield one, servicer
    await one.stop(0)


async def call(server: Server) -> None:
    async with channel(server.address) as link:
        await infer_pb2_grpc.InferServiceStub(link).GetCapacity(infer_pb2.GetCapacityRequest())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("bad", "Mend it", field="text"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.BadMedia("bad", "Mend it"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("gone", "Make it"), grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists("taken", "Other"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.NotReady("early", "Wait"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Busy("full", "Wait", retry_after_s=1.5), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.StorageFull("full", "Clean"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Interrupted("reset", "Again"), grpc.StatusCode.ABORTED),
        (errors.Damaged("torn", "Again"), grpc.StatusCode.DATA_LOSS),
        (errors.Unreachable("down", "Start"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_an_error_is_complete_at_the_client(
    server: tuple[Server, Failing], error: errors.WarmtalkError, code: grpc.StatusCode
) -> None:
    one, servicer = server
    servicer.error = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(one)
    assert caught.value.code() is code
    assert caught.value.details() == str(error)
    again = from_rpc(caught.value, "infer")
    assert (type(again), again.message, again.hint) == (type(error), error.message, error.hint)


async def test_busy_carries_the_retry_delay(server: tuple[Server, Failing]) -> None:
    one, servicer = server
    servicer.error = errors.Busy("full", retry_after_s=1.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(one)
    status = rpc_status.from_call(caught.value)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 1500


async def test_the_text_of_an_internal_error_stays_in_the_log(
    server: tuple[Server, Failing], caplog: pytest.LogCaptureFixture
) -> None:
    one, servicer = server
    servicer.error = ZeroDivisionError("secret path /home/me")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(one)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    incident = (caught.value.details() or "").split()[-1]
    assert incident in caplog.text
    assert "secret path" in caplog.text


async def test_a_stream_failing_midway_ends_with_the_error(server: tuple[Server, Failing]) -> None:
    one, _ = server
    async with channel(one.address) as link:
        call = infer_pb2_grpc.InferServiceStub(link).Render(iter([infer_pb2.RenderRequest()]))
        got = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for answer in call:
                got.append(answer)
    assert len(got) == 1
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_is_serving_only_when_ready_and_not_when_draining(server: tuple[Server, Failing]) -> None:
    one, _ = server
    async with channel(one.address) as link:
        health = health_pb2_grpc.HealthStub(link)

        async def status() -> int:
            return (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status  # type: ignore

        assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(errors.Unreachable, match="not ready"):
            await wait_ready(one.address, SERVICE, 0.0)
        await one.ready()
        assert await status() == health_pb2.HealthCheckResponse.SERVING
        await wait_ready(one.address, SERVICE, 0.0)


async def test_reflection_lists_the_service(server: tuple[Server, Failing]) -> None:
    one, _ = server
    async with channel(one.address) as link:
        stub = reflection_pb2_grpc.ServerReflectionStub(link)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = [service.name for service in answer.list_services_response.service]
    assert SERVICE in names


async def test_a_stopped_server_is_unreachable_with_a_hint() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(10), channel("127.0.0.1:1") as link:
            await infer_pb2_grpc.InferServiceStub(link).GetCapacity(infer_pb2.GetCapacityRequest())
    error = from_rpc(caught.value, "infer")
    assert isinstance(error, errors.Unreachable)
    assert "warmtalk up" in str(error)


async def test_an_address_in_use_is_named(server: tuple[Server, Failing]) -> None:
    one, _ = server
    with pytest.raises(OSError, match=f"cannot listen on {one.address}"):
        Server(one.address, SERVICE)
