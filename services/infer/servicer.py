"""InferService: an adapter between the messages of infer.proto and the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import grpc

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import FrameClock
from warmtalk.rpc import convert
from warmtalk.rpc.disconnect import close_on_disconnect
from warmtalk.services.infer.engine import Engine
from warmtalk.services.infer.stream import RenderStream, StreamConfig
from warmtalk.v1 import infer_pb2, infer_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_LINGER_S = 1.0
"""Time that a finished stream waits for the client to hang up. A grpc.aio client loses unread messages
when writing to an ended call."""


class InferServicer(infer_pb2_grpc.InferServiceServicer):
    """RPC handlers of the infer service. infer.proto holds the contract of each RPC."""

    def __init__(self, engine: Engine, *, batch_frames: int) -> None:
        self._engine = engine
        self._batch_frames = batch_frames

    async def Render(  # noqa: N802 - named by the proto
        self, requests: AsyncIterator[infer_pb2.RenderRequest], context: Context
    ) -> AsyncIterator[infer_pb2.RenderResponse]:
        first = await anext(aiter(requests), infer_pb2.RenderRequest())
        if first.WhichOneof("message") != "config":
            raise InvalidInput("the first message of Render is not a config", "Send RenderConfig first", field="config")
        stream = await self._engine.open(self._stream_config(first.config))
        close_on_disconnect(context, stream)
        reader = asyncio.create_task(_read_requests(requests, stream))
        try:
            yield infer_pb2.RenderResponse(started=_started(stream))
            async for patches in stream.batches():
                yield infer_pb2.RenderResponse(batch=convert.frame_batch(patches, first.config.pixel_format))
            finished = infer_pb2.RenderFinished(frames=stream.buffer.frames_taken, aborted=stream.buffer.aborted)
            yield infer_pb2.RenderResponse(finished=finished)
            await asyncio.wait({reader}, timeout=_LINGER_S)
        finally:
            reader.cancel()
            stream.close()

    async def GetCapacity(  # noqa: N802
        self, request: infer_pb2.GetCapacityRequest, context: Context
    ) -> infer_pb2.GetCapacityResponse:
        return infer_pb2.GetCapacityResponse(
            renderers=list(self._engine.models),
            open_streams=self._engine.open_streams,
            max_streams=self._engine.capacity,
            faces_per_second=self._engine.faces_per_second,
            warm_avatars=self._engine.avatars.names,
            warm_bytes=self._engine.avatars.nbytes,
        )

    async def WarmAvatar(  # noqa: N802
        self, request: infer_pb2.WarmAvatarRequest, context: Context
    ) -> infer_pb2.WarmAvatarResponse:
        start_s = time.perf_counter()
        was_warm = request.avatar_id in self._engine.avatars.names
        await self._engine.warm(request.avatar_id, request.renderer)
        response = infer_pb2.WarmAvatarResponse()
        if not was_warm:
            response.load_time.FromMicroseconds(int((time.perf_counter() - start_s) * 1e6))
        return response

    def _stream_config(self, config: infer_pb2.RenderConfig) -> StreamConfig:
        return StreamConfig(
            avatar_id=config.avatar_id,
            renderer=config.renderer,
            clock=FrameClock(convert.frame_rate(config.frame_rate, Fraction(25))),
            start_index=_within("start_index", config.start_index, 0, 1 << 62, 0),
            batch_frames=_within("batch_frames", config.batch_frames, 1, 8, self._batch_frames),
            credit=_within("initial_credit_frames", config.initial_credit_frames, 1, 256, 32),
        )


async def _read_requests(requests: AsyncIterator[infer_pb2.RenderRequest], stream: RenderStream) -> None:
    """Passes requests to the stream until the client half-closes. A client that hangs up without `end` aborts."""
    try:
        async for request in requests:
            match request.WhichOneof("message"):
                case "audio":
                    if stream.buffer.ended:
                        raise InvalidInput("audio arrived after end", "Send no audio after end", field="audio")
                    await stream.push_audio(convert.samples(request.audio.samples_f32le, "audio"))
                case "credit":
                    stream.grant_credit(_within("credit.frames", request.credit.frames, 1, 256, 0))
                case "end":
                    stream.end_audio()
                case "abort":
                    stream.abort()
                case _:
                    raise InvalidInput("a message of Render is empty or a second config", "Send audio, credit, end")
        if not stream.buffer.ended:
            stream.abort()
    except Exception as error:  # noqa: BLE001 - the stream ends with this error
        stream.fail(error)


def _started(stream: RenderStream) -> infer_pb2.RenderStarted:
    info = stream.avatar.bundle.info
    return infer_pb2.RenderStarted(
        renderer=stream.renderer,
        width=info.width,
        height=info.height,
        source_frames=info.frames,
        source_sha256=info.source_sha256,
    )


def _within(field: str, value: int, low: int, high: int, default: int) -> int:
    """Returns `value`, or `default` where 0 means unset. Raises InvalidInput outside `low` to `high`."""
    if value == 0 and low > 0:
        value = default
    if not low <= value <= high:
        raise InvalidInput(f"{field} is {value}", f"Use {low} to {high}", field=field)
    return value
