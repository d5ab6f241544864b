"""State shared by the event loop, the render thread and the blend thread: the open streams and their pending work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from warmtalk.core.pipeline import RenderModel
from warmtalk.core.ports import BatchRenderer
from warmtalk.core.scheduler import Scheduler
from warmtalk.core.types import Features, Samples
from warmtalk.services.infer.stream import RenderStream, StreamConfig

_MAX_ENCODED_PER_TURN = 4
"""Streams whose audio is encoded in one turn of the render thread."""
_UNBATCHED_FRAMES = 8
"""Frames scheduled at once for a renderer without batches. New audio waits until these frames are rendered."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Work for one turn of the render thread. Without a call and without work the thread is idle."""

    call: Callable[[], None] | None
    """A function to run alone, before anything else."""
    to_encode: list[RenderStream]
    """Streams with audio to encode, and complete streams."""
    idle: bool
    """True when there is nothing to do, not even a frame to render."""


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledBatch:
    """Frames to render as one batch."""

    renderer: str
    streams: list[RenderStream]
    frames: list[tuple[int, Features]]
    """For each stream: number of the first frame, and the [count, ...] features."""


class WorkQueue:
    """The open streams and their schedulers, one scheduler per renderer. Thread-safe: every method takes the one lock.

    Implements `EngineHandle` for the streams.
    """

    def __init__(self, models: Mapping[str, RenderModel]) -> None:
        self._lock = threading.Condition()
        self._streams: deque[RenderStream] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._closed = False
        self._schedulers = {name: Scheduler(max_batch=_max_batch(model)) for name, model in models.items()}

    @property
    def open_streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def streams_of(self, renderer: str) -> int:
        """Returns the number of open streams of one renderer, without aborted streams."""
        return len(self._schedulers[renderer])

    def add(self, stream: RenderStream, config: StreamConfig) -> None:
        """Adds an open stream."""
        with self._lock:
            self._streams.append(stream)
            scheduler = self._schedulers[stream.renderer]
            scheduler.open(stream, config.clock.fps, config.credit, config.batch_frames)

    def push_audio(self, stream: RenderStream, samples: Samples) -> None:
        """Appends 16 kHz samples to the stream."""
        with self._lock:
            stream.buffer.push_audio(samples)
            self._lock.notify()

    def end_audio(self, stream: RenderStream) -> None:
        """Marks the audio of the stream as complete."""
        with self._lock:
            stream.buffer.ended = True
            self._lock.notify()

    def grant_credit(self, stream: RenderStream, frames: int) -> None:
        """Allows `frames` more of the stream to be sent."""
        with self._lock:
            stream.buffer.credit += frames
            self._schedulers[stream.renderer].add_credit(stream, frames, time.monotonic())
            self._lock.notify()

    def abort(self, stream: RenderStream) -> None:
        """Drops the frames of the stream not rendered yet."""
        with self._lock:
            stream.buffer.aborted = True
            self._schedulers[stream.renderer].close(stream)
            self._lock.notify()

    def remove(self, stream: RenderStream) -> None:
        """Aborts the stream and frees its place. May be called any number of times."""
        with self._lock:
            self.abort(stream)
            self._leave(stream)

    def fail(self, stream: RenderStream, error: Exception) -> None:
        """Removes the stream and delivers the error. Other streams go on."""
        self.remove(stream)
        stream.deliver(error)

    def submit_call(self, call: Callable[[], None]) -> None:
        """Schedules a function for the render thread; it runs before the next batch."""
        with self._lock:
            self._calls.append(call)
            self._lock.notify()

    def close(self) -> None:
        """Ends the render thread after its current turn."""
        with self._lock:
            self._closed = True
            self._lock.notify()

    def next_turn(self, *, block: bool) -> Turn:
        """Returns the work of the next turn. With `block`, waits until there is work or the queue is closed."""
        with self._lock:
            if block:
                self._lock.wait_for(self._has_work)
            idle = not self._has_work()
            call = self._calls.popleft() if self._calls else None
            return Turn(call, [] if call else self._next_to_encode(), idle)

    def take_audio(self, stream: RenderStream) -> tuple[list[Samples], bool]:
        """Removes pending audio of the stream, see `UtteranceBuffer.take_audio`."""
        with self._lock:
            return stream.buffer.take_audio()

    def add_features(self, stream: RenderStream, encoded: list[Features], last: bool) -> None:
        """Adds encoded frames of the stream, ready for rendering."""
        with self._lock:
            stream.buffer.add_features(encoded, last)
            frames = sum(len(features) for features in encoded)
            self._schedulers[stream.renderer].add_frames(stream, frames, time.monotonic())

    @property
    def has_due_frames(self) -> bool:
        """True when a stream has a frame ready for rendering."""
        with self._lock:
            return self._due_renderer() is not None

    def take_batch(self) -> ScheduledBatch | None:
        """Removes the most urgent frames of the most urgent renderer as one batch; None when no frame is ready."""
        with self._lock:
            name = self._due_renderer()
            if name is None:
                return None
            shares = self._schedulers[name].next_batch()
            streams = [cast(RenderStream, share.key) for share in shares]
            frames = [one.buffer.take_frames(share.count) for one, share in zip(streams, shares, strict=True)]
            return ScheduledBatch(name, streams, frames)

    def leave_if_done(self, stream: RenderStream) -> bool:
        """Removes the stream when all its frames have been taken. Returns True if so, once per stream."""
        with self._lock:
            finished = stream.buffer.done and stream in self._streams
            if finished:
                self._leave(stream)
            return finished

    def _has_work(self) -> bool:
        return bool(self._closed or self._calls or self._due_renderer() or any(map(_needs_encoding, self._streams)))

    def _next_to_encode(self) -> list[RenderStream]:
        """Returns the next few streams with audio to encode, and moves them to the end of the line (round robin)."""
        streams = [stream for stream in self._streams if _needs_encoding(stream)][:_MAX_ENCODED_PER_TURN]
        for stream in streams:
            self._streams.remove(stream)
            self._streams.append(stream)
        return streams

    def _due_renderer(self) -> str | None:
        """Returns the renderer with the earliest deadline of all frames."""
        deadlines = {name: scheduler.next_due_s() for name, scheduler in self._schedulers.items()}
        waiting = {name: due_s for name, due_s in deadlines.items() if due_s is not None}
        return min(waiting, key=lambda name: waiting[name]) if waiting else None

    def _leave(self, stream: RenderStream) -> None:
        self._schedulers[stream.renderer].close(stream)
        if stream in self._streams:
            self._streams.remove(stream)


def _needs_encoding(stream: RenderStream) -> bool:
    return stream.buffer.needs_encoding


def _max_batch(model: RenderModel) -> int:
    renderer = model.renderer
    return renderer.max_batch if isinstance(renderer, BatchRenderer) else _UNBATCHED_FRAMES
