"""Delivery of rendered batches: the blend thread waits for the faces, pastes them and hands patches to the streams."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from warmtalk.core.pipeline import BatchPlan, RenderedFaces
from warmtalk.services.infer.admission import ThroughputMeter
from warmtalk.services.infer.stream import RenderStream
from warmtalk.services.infer.work_queue import WorkQueue

_MAX_BATCHES = 2
"""Batches in progress: one on the device and one more, so the device never waits for the render thread."""

WaitForFaces = Callable[[], list[RenderedFaces | Exception]]
"""Blocks until a batch is rendered; returns the faces, or the error, of each plan."""


class BatchDelivery:
    """Delivers batches in the order of `submit`, on its own thread, while the next batch is rendered.

    The render thread reserves a slot, then either submits a batch or releases the slot.
    """

    def __init__(self, queue: WorkQueue, meter: ThroughputMeter) -> None:
        self._queue = queue
        self._meter = meter
        self._slots = threading.BoundedSemaphore(_MAX_BATCHES)
        self._last_batch_s = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="blend")

    def reserve_slot(self) -> None:
        """Blocks while two batches are in progress."""
        self._slots.acquire()

    def release_slot(self) -> None:
        """Gives back an unused slot."""
        self._slots.release()

    def submit(
        self, streams: list[RenderStream], plans: list[BatchPlan], wait_for_faces: WaitForFaces, start_s: float
    ) -> None:
        """Delivers one plan of each stream once `wait_for_faces` returns, and releases the slot.

        `start_s` is the time.perf_counter() at which rendering started.
        """
        self._executor.submit(self._deliver, streams, plans, wait_for_faces, start_s)

    def submit_end(self, stream: RenderStream) -> None:
        """Ends the stream after all batches submitted before."""
        self._executor.submit(stream.deliver, None)

    async def close(self) -> None:
        """Waits until all submitted batches are delivered."""
        await asyncio.to_thread(self._executor.shutdown)

    def _deliver(
        self, streams: list[RenderStream], plans: list[BatchPlan], wait_for_faces: WaitForFaces, start_s: float
    ) -> None:
        try:
            results = wait_for_faces()
        finally:
            self._slots.release()
        now_s = time.perf_counter()
        # A batch queued behind another one occupies the device only from the end of the other one.
        self._meter.record(now_s - max(start_s, self._last_batch_s), sum(len(plan.rows) for plan in plans))
        self._last_batch_s = now_s
        for stream, plan, faces in zip(streams, plans, results, strict=True):
            if isinstance(faces, Exception):
                self._queue.fail(stream, faces)
            else:
                self._paste(stream, plan, faces)

    def _paste(self, stream: RenderStream, plan: BatchPlan, faces: RenderedFaces) -> None:
        try:
            stream.deliver(stream.avatar.paste_faces(plan, faces, stream.sharpening))
        except Exception as error:  # noqa: BLE001 - the error concerns this stream alone; the engine goes on
            self._queue.fail(stream, error)
