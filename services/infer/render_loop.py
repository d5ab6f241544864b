"""Render thread: the one thread that owns the renderers and the device.

Each turn encodes the audio of a few streams (round robin), then starts rendering the most urgent frames of all streams
as one batch (see core/scheduler.py). The blend thread waits for the faces and delivers them (see delivery.py), while
the next batch starts. The credit of a stream bounds the frames rendered ahead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from warmtalk.core.pipeline import RenderModel, submit_faces
from warmtalk.services.infer.delivery import BatchDelivery
from warmtalk.services.infer.stream import RenderStream
from warmtalk.services.infer.work_queue import ScheduledBatch, WorkQueue

T = TypeVar("T")


class RenderLoop:
    """The render thread, which starts with the constructor. Other threads use `call` and `close` only."""

    def __init__(
        self,
        models: Mapping[str, RenderModel],
        queue: WorkQueue,
        delivery: BatchDelivery,
        prepare_next_row: Callable[[], bool],
    ) -> None:
        """`prepare_next_row` does a small part of the preparation of an avatar while there is nothing to render, and
        returns False when nothing is left to prepare.
        """
        self._models = models
        self._queue = queue
        self._delivery = delivery
        self._prepare_next_row = prepare_next_row
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[], T]) -> T:
        """Runs `work` on the render thread between two batches. Returns the result of `work` or raises its error."""
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

        self._queue.submit_call(run)
        return await future

    async def close(self) -> None:
        """Stops the thread after the current turn."""
        self._queue.close()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        rows_left = False
        while not self._queue.closed:
            rows_left = self._run_turn(rows_left)

    def _run_turn(self, rows_left: bool) -> bool:
        """Does the work of one turn. Waits for work, unless `rows_left` is set: an avatar may have unprepared rows.

        Returns the new `rows_left`. The thread holds no stream while waiting, because this function has returned.
        """
        turn = self._queue.next_turn(block=not rows_left)
        if self._queue.closed:
            return False
        if turn.idle:
            return self._prepare_next_row()
        if turn.call:
            turn.call()
            return True
        for stream in turn.to_encode:
            self._encode(stream)
        self._render_batch()
        return rows_left

    def _encode(self, stream: RenderStream) -> None:
        chunks, last = self._queue.take_audio(stream)
        if chunks:
            stream.notify_audio_taken()
        try:
            encoded = [] if stream.buffer.aborted else stream.buffer.encode(chunks, last)
        except Exception as error:  # noqa: BLE001 - the error concerns this stream alone; the engine goes on
            self._queue.fail(stream, error)
            return
        self._queue.add_features(stream, encoded, last)
        self._end_if_done(stream)

    def _render_batch(self) -> None:
        """Starts rendering the most urgent batch, if there is one. Blocks while two batches are under way."""
        if not self._queue.has_due_frames:
            return
        self._delivery.reserve_slot()
        batch = self._queue.take_batch()  # the wait may have made another batch the most urgent one, or left none
        if batch is None:
            self._delivery.release_slot()
            return
        try:
            self._submit(batch)
        except Exception as error:  # noqa: BLE001 - the error concerns this batch alone; the engine goes on
            self._delivery.release_slot()
            for stream in batch.streams:
                self._queue.fail(stream, error)

    def _submit(self, batch: ScheduledBatch) -> None:
        start_s = time.perf_counter()
        plans = [
            stream.avatar.plan_batch(first, stream.buffer.start_index, features)
            for stream, (first, features) in zip(batch.streams, batch.frames, strict=True)
        ]
        wait_for_faces = submit_faces(self._models[batch.renderer].renderer, plans)
        self._delivery.submit(batch.streams, plans, wait_for_faces, start_s)
        for stream in batch.streams:
            self._end_if_done(stream)

    def _end_if_done(self, stream: RenderStream) -> None:
        if self._queue.leave_if_done(stream):
            self._delivery.submit_end(stream)
