"""One utterance as the RPC handler sees it: audio and credit go in, batches of patches come out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.sharpen import Sharpening
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Patch, Samples

_MAX_PENDING_SAMPLES = 20 * 60 * SPEECH_RATE_HZ
"""More than the longest clip. Credit arrives behind the audio in the same request stream, so reading must not wait for
credit. Audio is small (64 KB a second); features are not, so audio is encoded only shortly before its frames
are rendered."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Parameters of a stream, from RenderConfig."""

    avatar_id: str
    renderer: str
    """Name of the renderer; "" selects the first renderer of this server with a prepared avatar."""
    clock: FrameClock
    start_index: int
    """Position of frame 0 in the forth-and-back cycle of the avatar."""
    batch_frames: int
    """Most frames of this stream in one batch."""
    credit: int
    """Frames allowed before the first RenderCredit."""


class EngineHandle(Protocol):
    """Interface of the engine for a stream. Thread-safe."""

    def push_audio(self, stream: RenderStream, samples: Samples) -> None:
        """Appends 16 kHz samples."""

    def end_audio(self, stream: RenderStream) -> None:
        """Marks the audio of the stream as complete."""

    def grant_credit(self, stream: RenderStream, frames: int) -> None:
        """Allows `frames` more to be sent."""

    def abort(self, stream: RenderStream) -> None:
        """Drops the frames not rendered yet."""

    def remove(self, stream: RenderStream) -> None:
        """Aborts the stream and frees its place. May be called any number of times."""


class RenderStream:
    """One open utterance. Belongs to the event loop, except where a method names another thread.

    `close` may be called on any thread, any number of times.
    """

    def __init__(self, engine: EngineHandle, avatar: WarmAvatar, renderer: str, buffer: UtteranceBuffer) -> None:
        self.avatar = avatar
        self.renderer = renderer
        self.buffer = buffer
        """Guarded by the lock of the engine."""
        self.sharpening = Sharpening()
        """Used by the blend thread alone."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._output: deque[list[Patch] | Exception | None] = deque()
        self._changed = asyncio.Event()

    async def push_audio(self, samples: Samples) -> None:
        """Appends 16 kHz samples. Waits while more than 20 minutes of audio are pending."""
        while self.buffer.pending_samples > _MAX_PENDING_SAMPLES and not self.buffer.aborted:
            self._changed.clear()
            await self._changed.wait()
        self._engine.push_audio(self, samples)

    def end_audio(self) -> None:
        """Marks the audio as complete: `batches` ends after the last frame."""
        self._engine.end_audio(self)

    def grant_credit(self, frames: int) -> None:
        """Allows `frames` more to be sent."""
        self._engine.grant_credit(self, frames)

    def abort(self) -> None:
        """Drops the frames not rendered yet; the batch in progress is still delivered."""
        self._engine.abort(self)

    def fail(self, error: Exception) -> None:
        """Ends the stream: `batches` raises `error`."""
        self.abort()
        self._put(error)

    def close(self) -> None:
        """Frees the place of the stream in the engine."""
        self._engine.remove(self)

    async def batches(self) -> AsyncIterator[list[Patch]]:
        """Yields batches in order of frames, until the last frame. Raises the error that ended the stream."""
        while True:
            while not self._output:
                self._changed.clear()
                await self._changed.wait()
            item = self._output.popleft()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def notify_audio_taken(self) -> None:
        """Wakes a waiting `push_audio`. Called by the render thread after it has taken audio."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    def deliver(self, item: list[Patch] | Exception | None) -> None:
        """Hands a batch, an error, or None for the end to `batches`. Called by the threads of the engine."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: list[Patch] | Exception | None) -> None:
        self._output.append(item)
        self._changed.set()
