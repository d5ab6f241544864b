"""One utterance on the infer service: sound in, patches out, credit given, once resumed when infer was lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np

from warmtalk.core.errors import NotReady, Unreachable, WarmtalkError
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Patch, Samples
from warmtalk.rpc import convert
from warmtalk.rpc.errors import from_rpc
from warmtalk.v1 import infer_pb2
from warmtalk.v1.infer_pb2_grpc import InferServiceStub

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.infer_pb2_grpc import InferServiceAsyncStub

log = logging.getLogger(__name__)

_CREDIT_STEP = 8
"""Credit is given in steps: every message is one that can cross with the end of the call."""
_MOST_CREDIT = 256
_AHEAD_S = 20.0
"""Sound sent before its frames came. Less than infer lets wait, so that a credit never stands behind sound."""
_CONTEXT_FRAMES = 25
"""Frames heard again, and not drawn again, when a stream is resumed: what comes before shapes the mouth."""
_MESSAGE_SAMPLES = 1 << 16

Call = grpc.aio.StreamStreamCall[infer_pb2.RenderRequest, infer_pb2.RenderResponse]


@dataclass(frozen=True, slots=True)
class RenderSettings:
    avatar_id: str
    source_sha256: str
    """Of the bundle that the patches will be pasted on."""
    clock: FrameClock
    start_index: int
    batch_frames: int
    ahead_frames: int = 32
    """Frames that infer may draw before they are granted, at least 9."""
    reconnect_s: float = 3.0
    """How long a lost infer service is waited for, once."""


class RenderCall:
    """One utterance. For one event loop: `send` and `end` from one task, `patches` in another."""

    def __init__(self, channel: grpc.aio.Channel, settings: RenderSettings) -> None:
        self._channel = channel
        self._stub: InferServiceAsyncStub = InferServiceStub(channel)
        self._settings = settings
        self._changed = asyncio.Event()
        """There may be something to write."""
        self._came = asyncio.Event()
        """Frames came."""
        self._sound = np.zeros(0, np.float32)
        """Sound that a resumed stream would need, and all after it."""
        self._sound_at = 0
        """Place of its first sample in the utterance."""
        self._ended = False
        self._done = 0
        self._credit = 0

    @property
    def frames_done(self) -> int:
        """Frames that came."""
        return self._done

    async def send(self, samples: Samples) -> None:
        """16 kHz mono. Waits while too much of it waits to be drawn."""
        self.push(samples)
        while self._waiting_s() > _AHEAD_S:
            self._came.clear()
            await self._came.wait()

    def push(self, samples: Samples) -> None:
        """As `send`, for a caller that bounds by itself what waits."""
        self._sound = np.concatenate([self._sound, samples])
        self._changed.set()

    def end(self) -> None:
        """The sound is complete."""
        self._ended = True
        self._changed.set()

    def grant(self, frames: int) -> None:
        """The frames are done with: as many more may come."""
        self._credit += frames
        self._changed.set()

    async def patches(self) -> AsyncGenerator[list[Patch], None]:
        """Every frame of the utterance, in order, without gaps; `frame` counts from 0.

        Raises what infer raises; Unreachable when it was lost and did not come back, or was lost twice.
        """
        resumed = False
        while True:
            try:
                async for batch in self._stream():
                    yield batch
                return
            except Unreachable as error:
                if resumed or not await self._back():
                    raise
                resumed = True
                log.warning("infer was lost at frame %d, going on from there: %s", self._done, error)

    async def _back(self) -> bool:
        """Whether infer answers again in time."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._settings.reconnect_s)
        except TimeoutError:
            return False
        return True

    async def _stream(self) -> AsyncGenerator[list[Patch], None]:
        """What one stream gives of the frames that are missing."""
        first = max(0, self._done - _CONTEXT_FRAMES)
        self._credit = 0
        call: Call = self._stub.Render()
        started = asyncio.Event()
        feeder = asyncio.create_task(self._feed(call, first, started))
        feeder.add_done_callback(lambda task: _end_with(task, call))
        try:
            while True:
                response = await _read(call)
                match response.WhichOneof("message"):
                    case "batch":
                        if batch := self._take(response, first):
                            yield batch
                    case "started":
                        self._check_avatar(response.started)
                        started.set()
                    case _:
                        return
        except grpc.aio.AioRpcError as error:
            raise _reason(error) from error
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
                f"avatar {self._settings.avatar_id!r} has just been replaced", "Try again; if it stays, restart infer"
            )

    def _take(self, response: infer_pb2.RenderResponse, first: int) -> list[Patch]:
        """The frames of a batch that are new, counted from the start of the utterance."""
        fresh: list[Patch] = []
        for patch in convert.patches(response.batch):
            frame = first + patch.frame
            if frame < self._done:
                self._credit += 1
                continue
            if frame != self._done:
                raise WarmtalkError(f"infer sent frame {frame} after {self._done - 1}")
            fresh.append(Patch(frame, patch.row, patch.box, patch.pixels))
            self._done += 1
        self._forget()
        self._changed.set()
        self._came.set()
        return fresh

    def _forget(self) -> None:
        """Drops the sound that no stream will need again."""
        needless = self._offset(max(0, self._done - _CONTEXT_FRAMES)) - self._sound_at
        if needless > _MESSAGE_SAMPLES:
            self._sound = self._sound[needless:].copy()
            self._sound_at += needless

    def _offset(self, frame: int) -> int:
        """First sample that belongs to `frame` alone; counted up, so that a part never yields a frame too many."""
        return math.ceil(frame * SPEECH_RATE_HZ / self._settings.clock.fps)

    def _frames_from(self, first: int) -> int:
        """Frames of a stream that began at frame `first`, once all sound is there."""
        samples = self._sound_at + len(self._sound) - self._offset(first)
        return self._settings.clock.frames_for(samples, SPEECH_RATE_HZ)

    def _waiting_s(self) -> float:
        sent = self._sound_at + len(self._sound)
        return sent / SPEECH_RATE_HZ - self._settings.clock.seconds_at(self._done)

    async def _feed(self, call: Call, first: int, started: asyncio.Event) -> None:
        """The only writer of a call: config, then credit before sound, then the end. Runs until it is cancelled.

        What is written while a server ends a call hides its status from a grpc.aio client, and what it sent before.
        So sound waits for `started`, and no credit is given that the server does not need to finish.
        """
        place, ended, granted = self._offset(first), False, self._settings.ahead_frames
        await call.write(infer_pb2.RenderRequest(config=self._config(first)))
        await started.wait()
        while True:
            self._changed.clear()
            if self._credit >= _CREDIT_STEP and not (ended and granted >= self._frames_from(first)):
                frames = min(self._credit, _MOST_CREDIT)
                self._credit -= frames
                granted += frames
                await call.write(infer_pb2.RenderRequest(credit=infer_pb2.RenderCredit(frames=frames)))
            elif len(piece := self._sound[place - self._sound_at :][:_MESSAGE_SAMPLES]):
                place += len(piece)
                audio = infer_pb2.AudioPiece(samples_f32le=convert.samples_bytes(piece))
                await call.write(infer_pb2.RenderRequest(audio=audio))
            elif self._ended and not ended:
                ended = True
                await call.write(infer_pb2.RenderRequest(end=infer_pb2.EndOfAudio()))
            else:
                await self._changed.wait()

    def _config(self, first: int) -> infer_pb2.RenderConfig:
        return infer_pb2.RenderConfig(
            avatar_id=self._settings.avatar_id,
            start_index=self._settings.start_index + first,
            frame_rate=convert.frame_rate_message(self._settings.clock.fps),
            initial_credit_frames=self._settings.ahead_frames,
            batch_frames=self._settings.batch_frames,
        )


def _end_with(feeder: asyncio.Task[None], call: Call) -> None:
    """A feeder that fails takes the call with it, unless the call failed first, which its reader reports."""
    if not feeder.cancelled() and not isinstance(feeder.exception(), grpc.RpcError | asyncio.InvalidStateError):
        call.cancel()


def _reason(error: grpc.aio.AioRpcError) -> WarmtalkError:
    if error.code() is grpc.StatusCode.INTERNAL and "from Core" in (error.details() or ""):
        return Unreachable("the infer service ended the stream", "Its log says why")  # a write hid the status
    return from_rpc(error, "infer")


async def _read(call: Call) -> infer_pb2.RenderResponse:
    """The next message. Raises AioRpcError, or Unreachable at an end that nobody announced."""
    response = await call.read()
    if response is grpc.aio.EOF:
        raise Unreachable("the infer service ended the stream too early", "Its log says why")
    assert isinstance(response, infer_pb2.RenderResponse)
    return response
