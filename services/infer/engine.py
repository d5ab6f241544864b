"""The one thread that owns the renderers, and the utterances that share it.

Each turn it takes the next utterance that can go on (round robin, so none starves), hears what came for it, draws one
batch and delivers it. Credit bounds what is drawn ahead; sound waiting to be heard is bounded by `room`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from services.infer.avatars import AvatarCache
from warmtalk.core.errors import Busy, InvalidInput, NotReady, WarmtalkError
from warmtalk.core.pipeline import Model, WarmAvatar
from warmtalk.core.stream import Utterance
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock, Patch, Samples

log = logging.getLogger(__name__)
T = TypeVar("T")

_WAITING_SAMPLES = 30 * SPEECH_RATE_HZ
_RATE_WINDOW = 64


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

    def __init__(self, engine: Engine, avatar: WarmAvatar, renderer: str, utterance: Utterance) -> None:
        self.avatar = avatar
        self.renderer = renderer
        self.utterance = utterance
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._out: deque[list[Patch] | WarmtalkError | Exception | None] = deque()
        self._changed = asyncio.Event()

    async def push(self, samples: Samples) -> None:
        """Waits while more than 30 s of sound wait to be heard."""
        while self.utterance.pending_samples > _WAITING_SAMPLES and not self.utterance.aborted:
            self._changed.clear()
            await self._changed.wait()
        self._engine.update(lambda: self.utterance.push(samples))

    def end(self) -> None:
        self._engine.update(lambda: setattr(self.utterance, "ended", True))

    def grant(self, frames: int) -> None:
        self._engine.update(lambda: setattr(self.utterance, "credit", self.utterance.credit + frames))

    def abort(self) -> None:
        """Frames not drawn yet are dropped; the batch being drawn is still delivered."""
        self._engine.update(lambda: setattr(self.utterance, "aborted", True))

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
        """Called by the render thread. None is the end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: list[Patch] | Exception | None) -> None:
        self._out.append(item)
        self._changed.set()


class Engine:
    """Renders for many utterances on one thread."""

    def __init__(self, models: Mapping[str, Model], avatars: AvatarCache, *, max_streams: int) -> None:
        self.models = dict(models)
        self.max_streams = max_streams
        self.avatars = avatars
        self._lock = threading.Condition()
        self._streams: deque[RenderStream] = deque()
        self._opening = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._closed = False
        self._seconds_per_face: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    async def open(self, config: StreamConfig) -> RenderStream:
        """Raises Busy when all places are taken, and all that warming an avatar raises."""
        with self._lock:
            if len(self._streams) + self._opening >= self.max_streams:
                raise Busy(
                    f"all {self.max_streams} streams of this server are taken",
                    "Try again soon, or raise infer.max_streams",
                    retry_after_s=1.0,
                )
            self._opening += 1
        try:
            name, avatar = await self.warm(config.avatar_id, config.renderer)
            hearing = self.models[name].encoder.start_stream(config.clock)
            utterance = Utterance(hearing, config.start_index, config.batch_frames, config.credit)
            stream = RenderStream(self, avatar, name, utterance)
            self.update(lambda: self._streams.append(stream))
            return stream
        finally:
            self.update(lambda: setattr(self, "_opening", self._opening - 1))

    async def warm(self, avatar_id: str, renderer: str = "") -> tuple[str, WarmAvatar]:
        """(renderer, avatar), loaded on the render thread unless it is warm.

        Raises NotFound, NotReady, Damaged; InvalidInput for a renderer that this server does not have.
        """
        if renderer and renderer not in self.models:
            raise InvalidInput(
                f"there is no renderer {renderer!r} here", f"Use one of: {', '.join(self.models)}", field="renderer"
            )
        return await self._call(lambda: self._warm(avatar_id, renderer))

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def faces_per_second(self) -> float:
        """Median of the last batches; 0 before the first."""
        times = sorted(self._seconds_per_face)
        return 1 / times[len(times) // 2] if times else 0.0

    def update(self, change: Callable[[], None]) -> None:
        """Changes shared state and wakes the render thread."""
        with self._lock:
            change()
            self._lock.notify()

    def remove(self, stream: RenderStream) -> None:
        with self._lock:
            stream.utterance.aborted = True
            if stream in self._streams:
                self._streams.remove(stream)

    async def close(self) -> None:
        self.update(lambda: setattr(self, "_closed", True))
        await asyncio.to_thread(self._thread.join)

    async def _call(self, work: Callable[[], T]) -> T:
        """Runs `work` on the render thread between two batches."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if not future.done():
                future.set_exception(error) if error else future.set_result(result)

        def run() -> None:
            try:
                loop.call_soon_threadsafe(settle, work(), None)
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                loop.call_soon_threadsafe(settle, None, error)

        self.update(lambda: self._calls.append(run))
        return await future

    def _warm(self, avatar_id: str, renderer: str) -> tuple[str, WarmAvatar]:
        info = self.avatars.info(avatar_id)
        ready = [name for name in self.models if name in info.renderers]
        name = renderer or (ready[0] if ready else "")
        if name not in info.renderers:
            raise NotReady(
                f"avatar {avatar_id!r} is not prepared for {renderer or 'any renderer of this server'}"
                f" (it is for: {', '.join(info.renderers)})",
                "Build it again for that renderer: warmtalk avatar create --replace",
            )
        return name, self.avatars.get(avatar_id, name, self.models[name].renderer)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closed or self._calls or self._next())
                if self._closed:
                    return
                call = self._calls.popleft() if self._calls else None
                stream = None if call else self._next()
            if call:
                call()
            elif stream:
                self._turn(stream)

    def _next(self) -> RenderStream | None:
        """The first that can go on, and it goes to the back of the line."""
        for _ in range(len(self._streams)):
            stream = self._streams[0]
            self._streams.rotate(-1)
            if stream.utterance.runnable:
                return stream
        return None

    def _turn(self, stream: RenderStream) -> None:
        try:
            self._advance(stream)
        except Exception as error:  # noqa: BLE001 - belongs to this utterance alone; the engine goes on
            self.remove(stream)
            stream.deliver(error)

    def _advance(self, stream: RenderStream) -> None:
        utterance = stream.utterance
        with self._lock:
            pieces, last = utterance.take_sound()
        if pieces:
            stream.wake()
        heard = utterance.hear(pieces, last)
        with self._lock:
            utterance.put(heard, last)
            batch = utterance.take_frames()
        if batch:
            first, features = batch
            begin = time.perf_counter()
            patches = stream.avatar.draw(first, utterance.start_index, features)
            self._seconds_per_face.append((time.perf_counter() - begin) / len(patches))
            stream.deliver(patches)
        with self._lock:
            finished = utterance.done and stream in self._streams
            if finished:
                self._streams.remove(stream)
        if finished:
            stream.deliver(None)
