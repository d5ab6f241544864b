"""One utterance as its handler sees it: sound and credit go in, batches come out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.errors import WarmtalkError
from warmtalk.core.pipeline import WarmAvatar
from warmtalk.core.sharpen import Sharpening
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Patch, Samples

if TYPE_CHECKING:  # it makes the streams
    from warmtalk.services.infer.engine import Engine

_WAITING_SAMPLES = 20 * 60 * SPEECH_RATE_HZ
"""More than the longest clip: credit comes behind the sound in the same stream, so reading on must not wait for it.
Sound is small (64 KB a second); what it becomes is not, so it is heard only shortly before it is drawn."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    avatar_id: str
    renderer: str
    """"" takes the first of this engine that the avatar is prepared for."""
    clock: FrameClock
    start_index: int
    batch_frames: int
    credit: int


class RenderStream:
    """One utterance as its handler sees it. For the event loop; `close` is for anywhere, any number of times."""

    def __init__(self, engine: Engine, avatar: WarmAvatar, renderer: str, utterance: UtteranceBuffer) -> None:
        self.avatar = avatar
        self.renderer = renderer
        self.utterance = utterance
        self.sharpening = Sharpening()
        """For the thread that blends alone."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._out: deque[list[Patch] | WarmtalkError | Exception | None] = deque()
        self._changed = asyncio.Event()

    async def push(self, samples: Samples) -> None:
        """Waits while more than 20 minutes of sound wait to be heard."""
        while self.utterance.pending_samples > _WAITING_SAMPLES and not self.utterance.aborted:
            self._changed.clear()
            await self._changed.wait()
        self._engine.update(lambda: self.utterance.push_audio(samples))

    def end(self) -> None:
        self._engine.update(lambda: setattr(self.utterance, "ended", True))

    def grant(self, frames: int) -> None:
        self._engine.grant(self, frames)

    def abort(self) -> None:
        """Frames not drawn yet are dropped; the batch being drawn is still delivered."""
        self._engine.abort(self)

    def fail(self, error: Exception) -> None:
        """Ends the stream with this error."""
        self.abort()
        self._put(error)

    def close(self) -> None:
        """Frees the place in the engine."""
        self._engine.remove(self)

    async def batches(self) -> AsyncIterator[list[Patch]]:
        """Until the last frame was delivered. Raises what went wrong."""
        while True:
            while not self._out:
                self._changed.clear()
                await self._changed.wait()
            item = self._out.popleft()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def wake(self) -> None:
        """Called by the render thread: sound was taken, there is room for more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    def deliver(self, item: list[Patch] | Exception | None) -> None:
        """Called by the engine's threads. None is the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: list[Patch] | Exception | None) -> None:
        self._out.append(item)
        self._changed.set()
