"""Client side of one Converse call: typed requests in, responses to a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc

from warmtalk.core.errors import Interrupted, WarmtalkError
from warmtalk.rpc.errors import from_rpc
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.problems import internal_error
from warmtalk.v1 import session_pb2

SAMPLE_RATE_HZ = 16_000
"""Sample rate of the audio from viewers: 16-bit mono PCM."""


class ConverseCall:
    """A Converse call with the task reading its responses. For one event loop; requests may come from any task."""

    def __init__(
        self,
        backend: Backend,
        session_id: str,
        handle_event: Callable[[session_pb2.SpeakResponse], Awaitable[None]],
        handle_end: Callable[[], None],
    ) -> None:
        """`handle_event` is awaited for each event in order; no further event is read in the meantime. A WarmtalkError
        from `handle_event` ends the call. `handle_end` is called once, after the last event.
        """
        self._session_id = session_id
        self._handle_event = handle_event
        self._handle_end = handle_end
        self._call: Any = backend.session.Converse()
        self._write_lock = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self.end_reason: WarmtalkError | None = None
        """Error that ended the call; None while the call runs."""

    async def start(self) -> None:
        """Starts reading and sends the config. Raises the error of the session service: NotFound, Busy, ..."""
        self._reader = asyncio.create_task(self._read())
        config = session_pb2.ConverseConfig(session_id=self._session_id, sample_rate_hz=SAMPLE_RATE_HZ)
        await self._send(session_pb2.ConverseRequest(config=config))

    async def send_text(self, text: str) -> None:
        """Sends a chunk of the utterance as text."""
        await self._send(session_pb2.ConverseRequest(text=text))

    async def send_pcm(self, data: bytes) -> None:
        """Sends a chunk of the utterance as audio: 16-bit little-endian mono at `SAMPLE_RATE_HZ`."""
        await self._send(session_pb2.ConverseRequest(pcm_s16le=data))

    async def end_utterance(self) -> None:
        """Marks the end of the utterance."""
        await self._send(session_pb2.ConverseRequest(end=session_pb2.EndOfUtterance()))

    async def report_playback(self, position_s: float) -> None:
        """Reports the stream second that a viewer is showing."""
        request = session_pb2.ConverseRequest()
        request.playback.position.FromTimedelta(timedelta(seconds=position_s))
        await self._send(request)

    async def interrupt(self, position_s: float | None) -> None:
        """Stops the speech. `position_s` is the stream second up to which a viewer has played, if known."""
        request = session_pb2.ConverseRequest(interrupt=session_pb2.InterruptNow())
        if position_s is not None:
            request.interrupt.position.FromTimedelta(timedelta(seconds=position_s))
        await self._send(request)

    async def finish(self, timeout_s: float) -> None:
        """Closes the request side, waits up to `timeout_s` for the current speech to end, then cancels the call."""
        if self.end_reason is None:
            with suppress(asyncio.InvalidStateError, grpc.RpcError):
                await self._call.done_writing()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=timeout_s)
            self._call.cancel()
            await asyncio.wait({self._reader})

    def cancel(self) -> None:
        """Cancels the call at once."""
        self._call.cancel()

    async def _send(self, request: session_pb2.ConverseRequest) -> None:
        async with self._write_lock:
            if self.end_reason is not None:
                raise self.end_reason
            try:
                await self._call.write(request)
            except (grpc.RpcError, asyncio.InvalidStateError) as error:
                # the call has ended; the reader learns the reason
                if self._reader is not None:
                    await asyncio.wait({self._reader})
                raise self.end_reason or _ended() from error

    async def _read(self) -> None:
        try:
            async for response in self._call:
                await self._handle_event(response.event)
            self.end_reason = _ended()
        except grpc.RpcError as error:
            self.end_reason = from_rpc(error, "session")
        except asyncio.CancelledError:
            self.end_reason = _ended()
        except WarmtalkError as error:
            self.end_reason = error
        except Exception as error:  # noqa: BLE001 - this task has no caller: the viewers must get the error
            self.end_reason = internal_error(error)
        finally:
            self._call.cancel()
            self._handle_end()


def _ended() -> Interrupted:
    return Interrupted("the live video has ended", "Connect again")
