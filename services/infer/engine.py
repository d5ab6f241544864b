"""The one thread that owns the renderers, and the utterances that share it.

Each round it hears what came for a few utterances (round robin, so none starves), then begins to draw the most urgent
frames of all as one batch (see core/scheduler.py); another thread waits for the faces, puts them into their frames and
delivers them, so that the next batch begins meanwhile. Credit bounds what is drawn ahead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.errors import Busy, InvalidInput, NotReady
from warmtalk.core.pipeline import BatchPlan, RenderedFaces, RenderModel, WarmAvatar, submit_faces
from warmtalk.core.ports import BatchRenderer
from warmtalk.core.scheduler import Scheduler, streams_at
from warmtalk.core.types import Features, FrameClock
from warmtalk.services.infer.avatars import AvatarCache
from warmtalk.services.infer.stream import RenderStream, StreamConfig

log = logging.getLogger(__name__)
T = TypeVar("T")

_RATE_WINDOW = 64
_HEARD_A_ROUND = 4
_UNDER_WAY = 2
"""Batches: one that the device draws, and the next, so that it never waits for us."""
_ALONE = 8
"""Frames between two looks at new sound, where the renderer draws one utterance after the other."""


class Engine:
    """Renders for many utterances on one thread."""

    def __init__(self, models: Mapping[str, RenderModel], avatars: AvatarCache, *, max_streams: int) -> None:
        self.models = dict(models)
        self.max_streams = max_streams
        self.avatars = avatars
        self._lock = threading.Condition()
        self._streams: deque[RenderStream] = deque()
        self._opening = 0
        self._calls: deque[Callable[[], None]] = deque()
        self._closed = False
        self._seconds_per_face: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._schedulers = {name: Scheduler(max_batch=_max_batch(model)) for name, model in self.models.items()}
        self._places = threading.BoundedSemaphore(_UNDER_WAY)
        self._collected = 0.0
        self._blender = ThreadPoolExecutor(1, thread_name_prefix="blend")
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    async def open(self, config: StreamConfig) -> RenderStream:
        """Raises Busy when all places are taken or one more would slow the others down, and all that warming an avatar
        raises."""
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
            utterance = UtteranceBuffer(hearing, config.start_index, config.credit)
            stream = RenderStream(self, avatar, name, utterance)
            self._admit(stream, config)
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
    def room(self) -> int:
        """Streams of 25 fps that it takes at once, with its fastest renderer."""
        rates = [self._rate(name) for name in self.models]
        return self.max_streams if 0.0 in rates else min(self.max_streams, streams_at(max(rates), FrameClock().fps))

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

    def grant(self, stream: RenderStream, frames: int) -> None:
        with self._lock:
            stream.utterance.credit += frames
            self._schedulers[stream.renderer].add_credit(stream, frames, time.monotonic())
            self._lock.notify()

    def abort(self, stream: RenderStream) -> None:
        with self._lock:
            stream.utterance.aborted = True
            self._schedulers[stream.renderer].close(stream)
            self._lock.notify()

    def remove(self, stream: RenderStream) -> None:
        with self._lock:
            self.abort(stream)
            self._leave(stream)

    async def close(self) -> None:
        self.update(lambda: setattr(self, "_closed", True))
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._blender.shutdown)

    def _leave(self, stream: RenderStream) -> None:
        self._schedulers[stream.renderer].close(stream)
        if stream in self._streams:
            self._streams.remove(stream)

    def _admit(self, stream: RenderStream, config: StreamConfig) -> None:
        """Raises Busy when the device would not keep up with one more."""
        scheduler, rate = self._schedulers[stream.renderer], self._rate(stream.renderer)
        with self._lock:
            if rate and len(scheduler) >= max(1, streams_at(rate, config.clock.fps)):
                raise Busy(
                    f"{rate:.0f} faces a second are enough for the {len(scheduler)} streams that are open, no more",
                    "Try again soon, or add a server",
                    retry_after_s=1.0,
                )
            self._streams.append(stream)
            scheduler.open(stream, config.clock.fps, config.credit, config.batch_frames)

    def _rate(self, name: str) -> float:
        """Faces a second as measured at start; 0: not measured."""
        renderer = self.models[name].renderer
        return renderer.faces_per_second if isinstance(renderer, BatchRenderer) else 0.0

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
        return name, self.avatars.get(avatar_id, name, self.models[name])

    def _run(self) -> None:
        cold = False
        while not self._closed:
            cold = self._round(cold)

    def _round(self, cold: bool) -> bool:
        """Waits for work, unless `cold`, and does what is next. Returns whether an avatar may have rows to be made
        ready while there is nothing to draw. What this holds of a stream is gone before it waits again.
        """
        with self._lock:
            if not cold:
                self._lock.wait_for(self._wanted)
            if self._closed:
                return False
            idle = not self._wanted()
            call = self._calls.popleft() if self._calls else None
            hearing = [] if call else self._hearable()
        if idle:
            return self.avatars.warm_on()
        if call:
            call()
            return True
        for stream in hearing:
            self._hear(stream)
        self._draw()
        return cold

    def _wanted(self) -> bool:
        return bool(self._closed or self._calls or self._hearable() or self._due())

    def _hearable(self) -> list[RenderStream]:
        """The next few that have something to hear or to finish; they go to the back of the line."""
        found = [stream for stream in self._streams if stream.utterance.needs_encoding][:_HEARD_A_ROUND]
        for stream in found:
            self._streams.remove(stream)
            self._streams.append(stream)
        return found

    def _hear(self, stream: RenderStream) -> None:
        utterance = stream.utterance
        with self._lock:
            pieces, last = utterance.take_audio()
        if pieces:
            stream.wake()
        try:
            heard = [] if utterance.aborted else utterance.encode(pieces, last)
        except Exception as error:  # noqa: BLE001 - belongs to this utterance alone; the engine goes on
            self._fail(stream, error)
            return
        with self._lock:
            utterance.add_features(heard, last)
            frames = sum(len(features) for features in heard)
            self._schedulers[stream.renderer].add_frames(stream, frames, time.monotonic())
        self._finish(stream)

    def _due(self) -> str | None:
        """The renderer whose most urgent frame is the first of all."""
        due = {name: scheduler.next_due_s() for name, scheduler in self._schedulers.items()}
        waiting = {name: when for name, when in due.items() if when is not None}
        return min(waiting, key=lambda name: waiting[name]) if waiting else None

    def _draw(self) -> None:
        with self._lock:
            if self._due() is None:
                return
        self._places.acquire()
        with self._lock:  # what is urgent may be another by now, or none
            name = self._due()
            shares = self._schedulers[name].next_batch() if name else []
            streams = [cast(RenderStream, share.key) for share in shares]
            taken = [one.utterance.take_frames(share.count) for one, share in zip(streams, shares, strict=True)]
        if name is None:
            self._places.release()
            return
        try:
            self._begin(name, streams, taken)
        except Exception as error:  # noqa: BLE001 - belongs to this batch alone; the engine goes on
            self._places.release()
            for stream in streams:
                self._fail(stream, error)

    def _begin(self, name: str, streams: list[RenderStream], taken: list[tuple[int, Features]]) -> None:
        """Starts to draw (first frame, features) of each stream."""
        begin = time.perf_counter()
        plans = [
            stream.avatar.plan_batch(first, stream.utterance.start_index, features)
            for stream, (first, features) in zip(streams, taken, strict=True)
        ]
        waiting = submit_faces(self.models[name].renderer, plans)
        self._blender.submit(self._collect, streams, plans, waiting, begin)
        for stream in streams:
            self._finish(stream)

    def _collect(
        self,
        streams: list[RenderStream],
        plans: list[BatchPlan],
        waiting: Callable[[], list[RenderedFaces | Exception]],
        begin: float,
    ) -> None:
        """On the blending thread: waits for a batch, so that the next can begin meanwhile, and delivers it."""
        try:
            found = waiting()
        finally:
            self._places.release()
        now = time.perf_counter()
        self._seconds_per_face.append((now - max(begin, self._collected)) / sum(len(plan.rows) for plan in plans))
        self._collected = now
        for stream, plan, faces in zip(streams, plans, found, strict=True):
            if isinstance(faces, Exception):
                self._fail(stream, faces)
            else:
                self._paste(stream, plan, faces)

    def _paste(self, stream: RenderStream, plan: BatchPlan, faces: RenderedFaces) -> None:
        try:
            stream.deliver(stream.avatar.paste_faces(plan, faces, stream.sharpening))
        except Exception as error:  # noqa: BLE001 - belongs to this utterance alone; the engine goes on
            self._fail(stream, error)

    def _fail(self, stream: RenderStream, error: Exception) -> None:
        self.remove(stream)
        stream.deliver(error)

    def _finish(self, stream: RenderStream) -> None:
        """Ends it when all its frames were drawn; the end comes after them."""
        with self._lock:
            finished = stream.utterance.done and stream in self._streams
            if finished:
                self._leave(stream)
        if finished:
            self._blender.submit(stream.deliver, None)


def _max_batch(model: RenderModel) -> int:
    renderer = model.renderer
    return renderer.max_batch if isinstance(renderer, BatchRenderer) else _ALONE
