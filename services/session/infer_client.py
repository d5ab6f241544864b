"""Client of the infer service: one RenderCall per utterance, resumed once when the service was lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from warmtalk.core.errors import NotReady, Unreachable, WarmtalkError
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Patch, Samples
from warmtalk.rpc import convert
from warmtalk.rpc.errors import from_rpc
from warmtalk.services.session.audio_buffer import AudioBuffer
from warmtalk.v1 import infer_pb2
from warmtalk.v1.infer_pb2_grpc import InferServiceStub

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.infer_pb2_grpc import InferServiceAsyncStub

log = logging.getLogger(__name__)

_CREDIT_STEP = 8
"""Frames of credit sent at once: each message can cross with the end of the call, so messages are few."""
_MAX_CREDIT = 256
_MAX_AHEAD_S = 20.0
"""Audio sent before the frames of that audio were received. Less than infer buffers, so that no credit message waits
behind audio.
"""
_CONTEXT_FRAMES = 25
"""Frames whose audio is sent again when a stream is resumed: earlier audio shapes the mouth. The frames are skipped."""
_MESSAGE_SAMPLES = 1 << 16
_WARM_TIMEOUT_S = 60.0

GrpcCall = grpc.aio.StreamStreamCall[infer_pb2.RenderRequest, infer_pb2.RenderResponse]


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """Parameters of one RenderCall."""

    avatar_id: str
    source_sha256: str
    """Checksum of the avatar bundle on which the patches will be pasted."""
    clock: FrameClock
    start_index: int
    """Source index of the first frame."""
    batch_frames: int
    ahead_frames: int = 32
    """Frames that infer may render before credit is granted, at least 9."""
    reconnect_s: float = 3.0
    """Maximum wait for a lost infer service, once."""


class InferClient:
    """The infer service as the session uses the service. For one event loop; does not close the channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def render(self, settings: RenderSettings, audio: AudioBuffer | None = None, audio_start: int = 0) -> RenderCall:
        """Returns a call that renders `audio` from position `audio_start`; default: an empty buffer."""
        return RenderCall(self._channel, settings, AudioBuffer() if audio is None else audio, audio_start)

    async def warm_avatar(self, avatar_id: str) -> None:
        """Makes infer load the avatar. Raises AioRpcError."""
        stub: InferServiceAsyncStub = InferServiceStub(self._channel)
        await stub.WarmAvatar(infer_pb2.WarmAvatarRequest(avatar_id=avatar_id), timeout=_WARM_TIMEOUT_S)


class RenderCall:
    """Rendering of one utterance: audio in, patches out, flow control by credit.

    For one event loop: `send_audio` and `end_audio` from one task, `patches` in another.
    """

    def __init__(
        self, channel: grpc.aio.Channel, settings: RenderSettings, audio: AudioBuffer, audio_start: int
    ) -> None:
        """Frame 0 starts at position `audio_start` of `audio`. The call discards audio that no stream needs again."""
        self._channel = channel
        self._stub: InferServiceAsyncStub = InferServiceStub(channel)
        self._settings = settings
        self._audio = audio
        self._audio_start = audio_start
        self._audio_ended = False
        self._write_ready = asyncio.Event()
        """Set when there is data to send."""
        self._frames_received = asyncio.Event()
        """Set when frames have been received."""
        self._frames_done = 0
        """Number of frames received."""
        self._credit = 0
        """Frames granted by the caller and not yet sent as credit."""

    async def send_audio(self, samples: Samples) -> None:
        """Appends 16 kHz mono audio. Waits while more than 20 s of audio are waiting for their frames."""
        self.push_audio(samples)
        while self._unrendered_s() > _MAX_AHEAD_S:
            self._frames_received.clear()
            await self._frames_received.wait()

    def push_audio(self, samples: Samples) -> None:
        """Appends 16 kHz mono audio without waiting, for a caller that bounds the amount of waiting audio."""
        self._audio.append(samples)
        self._write_ready.set()

    def end_audio(self) -> None:
        """Marks the audio as complete."""
        self._audio_ended = True
        self._write_ready.set()

    def grant_credit(self, frames: int) -> None:
        """Allows infer to render `frames` more frames."""
        self._credit += frames
        self._write_ready.set()

    async def patches(self) -> AsyncGenerator[list[Patch], None]:
        """Yields every frame of the utterance in order, without gaps; `frame` counts from 0.

        Raises the errors of infer; Unreachable when the service was lost and did not return in time, or was lost twice.
        """
        resumed = False
        while True:
            try:
                async for batch in self._stream():
                    yield batch
                return
            except Unreachable as error:
                if resumed or not await self._reconnected():
                    raise
                resumed = True
                log.warning("infer was lost at frame %d, resuming there: %s", self._frames_done, error)

    async def _reconnected(self) -> bool:
        """True when infer answers again within `reconnect_s`."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._settings.reconnect_s)
        except TimeoutError:
            return False
        return True

    async def _stream(self) -> AsyncGenerator[list[Patch], None]:
        """Yields the missing frames from one gRPC stream."""
        first = max(0, self._frames_done - _CONTEXT_FRAMES)
        self._credit = 0
        call: GrpcCall = self._stub.Render()
        started = asyncio.Event()
        feeder = asyncio.create_task(self._feed(call, first, started))
        feeder.add_done_callback(lambda task: _cancel_on_failure(task, call))
        try:
            while True:
                response = await _read(call)
                match response.WhichOneof("message"):
                    case "batch":
                        if batch := self._new_patches(response, first):
                            yield batch
                    case "started":
                        self._check_avatar(response.started)
                        started.set()
                    case _:
                        return
        except grpc.aio.AioRpcError as error:
            raise _cause(error) from error
        except asyncio.CancelledError:
            if feeder.done() and not feeder.cancelled():
                feeder.result()
            raise
        finally:
            feeder.cancel()
            call.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    def _check_avatar(self, started: infer_pb2.RenderStarted) -> None:
        if started.source_sha256 != self._settings.source_sha256:
            raise NotReady(
                f"avatar {self._settings.avatar_id!r} has just been replaced",
                "Try again; if the error stays, restart infer",
            )

    def _new_patches(self, response: infer_pb2.RenderResponse, first: int) -> list[Patch]:
        """Returns the patches of a batch that were not received before, counted from the start of the utterance."""
        fresh: list[Patch] = []
        for patch in convert.patches(response.batch):
            frame = first + patch.frame
            if frame < self._frames_done:
                self._credit += 1
                continue
            if frame != self._frames_done:
                raise WarmtalkError(f"infer sent frame {frame} after frame {self._frames_done - 1}")
            fresh.append(Patch(frame, patch.row, patch.box, patch.pixels))
            self._frames_done += 1
        self._discard_audio()
        self._write_ready.set()
        self._frames_received.set()
        return fresh

    def _discard_audio(self) -> None:
        """Drops audio that no stream needs again, in steps of at least 4 s."""
        needed_from = self._audio_position(max(0, self._frames_done - _CONTEXT_FRAMES))
        if needed_from - self._audio.start > _MESSAGE_SAMPLES:
            self._audio.discard_before(needed_from)

    def _audio_position(self, frame: int) -> int:
        """Returns the position of the first sample of `frame`, rounded up: a part never yields an extra frame."""
        return self._audio_start + math.ceil(frame * SPEECH_RATE_HZ / self._settings.clock.fps)

    def _frames_from(self, first: int) -> int:
        """Returns the length in frames of a stream that starts at frame `first`, once the audio is complete."""
        return self._settings.clock.frames_for(self._audio.end - self._audio_position(first), SPEECH_RATE_HZ)

    def _unrendered_s(self) -> float:
        """Returns the seconds of audio whose frames were not received yet."""
        audio_s = (self._audio.end - self._audio_start) / SPEECH_RATE_HZ
        return audio_s - self._settings.clock.seconds_at(self._frames_done)

    async def _feed(self, call: GrpcCall, first: int, started: asyncio.Event) -> None:
        """Writes to the call: the config, then credit before audio, then the end. Runs until cancelled.

        The only writer of a call. A message written while the server ends the call hides the status, and earlier
        responses, from a grpc.aio client. Audio therefore waits for `started`, and no credit is sent that the server
        does not need to finish.
        """
        position, ended, granted = self._audio_position(first), False, self._settings.ahead_frames
        await call.write(infer_pb2.RenderRequest(config=self._config(first)))
        await started.wait()
        while True:
            self._write_ready.clear()
            if self._credit >= _CREDIT_STEP and not (ended and granted >= self._frames_from(first)):
                frames = min(self._credit, _MAX_CREDIT)
                self._credit -= frames
                granted += frames
                await call.write(infer_pb2.RenderRequest(credit=infer_pb2.RenderCredit(frames=frames)))
            elif len(chunk := self._audio.read(position, _MESSAGE_SAMPLES)):
                position += len(chunk)
                audio = infer_pb2.AudioPiece(samples_f32le=convert.samples_bytes(chunk))
                await call.write(infer_pb2.RenderRequest(audio=audio))
            elif self._audio_ended and not ended:
                ended = True
                await call.write(infer_pb2.RenderRequest(end=infer_pb2.EndOfAudio()))
            else:
                await self._write_ready.wait()

    def _config(self, first: int) -> infer_pb2.RenderConfig:
        return infer_pb2.RenderConfig(
            avatar_id=self._settings.avatar_id,
            start_index=self._settings.start_index + first,
            frame_rate=convert.frame_rate_message(self._settings.clock.fps),
            initial_credit_frames=self._settings.ahead_frames,
            batch_frames=self._settings.batch_frames,
        )


def _cancel_on_failure(feeder: asyncio.Task[None], call: GrpcCall) -> None:
    """Cancels the call when the feeder failed, unless the call failed first; the reader reports a failed call."""
    if not feeder.cancelled() and not isinstance(feeder.exception(), grpc.RpcError | asyncio.InvalidStateError):
        call.cancel()


def _cause(error: grpc.aio.AioRpcError) -> WarmtalkError:
    if error.code() is grpc.StatusCode.INTERNAL and "from Core" in (error.details() or ""):
        return Unreachable("the infer service ended the stream", "See the log of infer")  # a write hid the status
    return from_rpc(error, "infer")


async def _read(call: GrpcCall) -> infer_pb2.RenderResponse:
    """Returns the next message. Raises AioRpcError, or Unreachable at an end without a finish message."""
    response = await call.read()
    if response is grpc.aio.EOF:
        raise Unreachable("the infer service ended the stream too early", "See the log of infer")
    assert isinstance(response, infer_pb2.RenderResponse)
    return response
