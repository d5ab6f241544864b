"""Offline pipeline from audio to patches. The live path uses the same WarmAvatar: equal audio gives equal frames.

chunks of audio ─ encoder ─► features, one row per frame ─ renderer ─► faces 256 x 256 ─ blend ─► patches
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from warmtalk.core.blend import PLAIN, Blending, BlendRegion
from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import WarmtalkError
from warmtalk.core.ports import (
    AHEAD_SAMPLES,
    BatchRenderer,
    FaceJob,
    FaceRenderer,
    LookaheadStream,
    RowRenderer,
    SpeechEncoder,
)
from warmtalk.core.sharpen import Sharpening
from warmtalk.core.types import FACE_SIZE, SPEECH_RATE_HZ, Box, Features, FrameClock, Image, Patch, Samples, cycle_row

RenderedFaces: TypeAlias = list[Image]
"""[256, 256, 3] faces of one plan, in the order of `BatchPlan.face_rows`."""
_EMPTY_BOX = Box(0, 0, 0, 0)
_REGION_BYTES = 256 << 20
"""Limit of the cached blend regions of one avatar."""
_SLICE_SAMPLES = SPEECH_RATE_HZ // 2
"""Audio consumed at once by an encoder with lookahead, as in the live path."""


@dataclass(frozen=True, slots=True)
class RenderModel:
    """A speech encoder and a renderer for the features of the encoder."""

    encoder: SpeechEncoder
    renderer: FaceRenderer[Any]
    blending: Blending = PLAIN
    """Method of blending the faces into the frames."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """Frames of one utterance, planned and not yet rendered."""

    avatar: WarmAvatar
    first_frame: int
    rows: list[int]
    """Source row of each frame."""
    positions: list[int]
    """Positions in `rows` of the frames with a face to render."""
    features: Features
    """[len(positions), ...] features of the frames in `positions`."""

    @property
    def face_rows(self) -> list[int]:
        """Source rows with a face to render, one for each of `positions`."""
        return [self.rows[position] for position in self.positions]


class WarmAvatar:
    """One avatar, loaded for one renderer and kept between utterances.

    One thread only, except `paste_faces`, which may run on a second thread.
    """

    def __init__(self, bundle: Bundle, renderer: FaceRenderer[Any], blending: Blending = PLAIN) -> None:
        """Avatars of the reference have whole-pixel boxes. Such avatars are blended like the reference; `blending` has
        no effect.
        """
        self.bundle = bundle
        self._blending = PLAIN if bundle.faces.float_boxes is None else blending
        self._renderer = renderer
        self._prepared = renderer.prepare(bundle)
        self._regions: OrderedDict[int, BlendRegion] = OrderedDict()
        self._region_bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory held now."""
        return self.bundle.nbytes + self._region_bytes + int(self._prepared.nbytes)

    def render(
        self, first_frame: int, start_index: int, features: Features, sharpening: Sharpening | None = None
    ) -> list[Patch]:
        """Returns the patches of frames first_frame, first_frame + 1, ..., one per row of features.

        `start_index` is the position of frame 0 in the forth-and-back cycle of the avatar. A source row without a
        usable face gives a patch with an empty box. `sharpening` is the state of the utterance after the previous
        frame.
        """
        plan = self.plan_batch(first_frame, start_index, features)
        faces = self._renderer.render(self._prepared, plan.face_rows, plan.features)
        return self.paste_faces(plan, faces, sharpening or Sharpening())

    def plan_batch(self, first_frame: int, start_index: int, features: Features) -> BatchPlan:
        """Returns the plan of `render`, for callers who batch the faces of many avatars."""
        rows = [cycle_row(start_index + first_frame + i, len(self.bundle)) for i in range(len(features))]
        positions = [position for position, row in enumerate(rows) if self.bundle.usable(row)]
        return BatchPlan(self, first_frame, rows, positions, features[positions])

    def prepare_rows(self) -> Iterator[None]:
        """Fills the caches of the source rows, one row per step, up to the capacity of the caches.

        Afterwards first frames take no longer than later ones. Runs on the render thread.
        """
        if not isinstance(self._renderer, RowRenderer):
            return
        for row in range(min(len(self.bundle), self._renderer.cached_rows)):
            if self.bundle.usable(row) and self._region_bytes < _REGION_BYTES:
                self._renderer.prepare_row(self._prepared, row)
                self._region(row)
                yield

    def face_jobs(self, plan: BatchPlan) -> list[FaceJob[Any]]:
        """Returns one job for each face of the plan."""
        return [FaceJob(self._prepared, row, one) for row, one in zip(plan.face_rows, plan.features, strict=True)]

    def paste_faces(self, plan: BatchPlan, faces: list[Image], sharpening: Sharpening) -> list[Patch]:
        """Returns the patches of a plan, given the faces of plan.face_rows in order.

        May run on another thread than the other methods. The plans of one utterance come in order.
        """
        face_at = dict(zip(plan.positions, faces, strict=True))
        return [
            Patch(plan.first_frame + position, row, *self._paste(row, face_at.get(position), sharpening))
            for position, row in enumerate(plan.rows)
        ]

    def _paste(self, row: int, face: Image | None, sharpening: Sharpening) -> tuple[Box, Image]:
        if face is None:
            sharpening.reset()
            return _EMPTY_BOX, np.empty((0, 0, 3), np.uint8)
        if self._blending.sharpen:
            box = self.bundle.paste_box(row)
            face = sharpening(face, max(box.width, box.height) / FACE_SIZE)
        return self._region(row).blend(face)

    def _region(self, row: int) -> BlendRegion:
        with self._lock:
            region = self._regions.get(row)
            if region is None:
                bundle = self.bundle
                box, crop = bundle.paste_box(row), bundle.crop_box(row)
                region = BlendRegion(bundle.frame(row), bundle.mask(row), box, crop, self._blending)
                self._regions[row] = region
                self._region_bytes += region.nbytes
                while self._region_bytes > _REGION_BYTES and len(self._regions) > 1:
                    _, evicted = self._regions.popitem(last=False)
                    self._region_bytes -= evicted.nbytes
            self._regions.move_to_end(row)
            return region


def submit_faces(
    renderer: FaceRenderer[Any], plans: Sequence[BatchPlan]
) -> Callable[[], list[RenderedFaces | Exception]]:
    """Starts rendering the faces of each plan. Returns a function to be called once, on any thread, for the result.

    The function blocks until the faces are rendered. A failed plan gives its error in the result and does not affect
    other plans. A BatchRenderer renders all plans as one batch; other renderers render plan after plan before this
    function returns.
    """
    if not isinstance(renderer, BatchRenderer):
        rendered = [_render_plan(renderer, plan) for plan in plans]
        return lambda: rendered
    try:
        wait = renderer.submit_batch([job for plan in plans for job in plan.avatar.face_jobs(plan)])
    except Exception as error:  # noqa: BLE001 - returned to the caller, who knows the utterances
        failed: list[RenderedFaces | Exception] = [error] * len(plans)
        return lambda: failed
    return lambda: _split_by_plan(plans, wait)


def _render_plan(renderer: FaceRenderer[Any], plan: BatchPlan) -> RenderedFaces | Exception:
    try:
        jobs = plan.avatar.face_jobs(plan)
        return renderer.render(jobs[0].avatar, plan.face_rows, plan.features) if jobs else []
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _split_by_plan(
    plans: Sequence[BatchPlan], wait: Callable[[], list[Image | WarmtalkError]]
) -> list[RenderedFaces | Exception]:
    """Waits for a batch. Returns the faces of each plan, or the first error of a face of the plan."""
    try:
        rendered = iter(wait())
    except Exception as error:  # noqa: BLE001 - as above
        return [error] * len(plans)
    results: list[RenderedFaces | Exception] = []
    for plan in plans:
        faces = list(islice(rendered, len(plan.positions)))
        failure = next((face for face in faces if isinstance(face, WarmtalkError)), None)
        results.append(failure or [face for face in faces if not isinstance(face, WarmtalkError)])
    return results


def render(
    avatar: WarmAvatar,
    encoder: SpeechEncoder,
    chunks: Iterable[Samples],
    clock: FrameClock,
    *,
    start_index: int = 0,
    batch_frames: int = 4,
) -> Iterator[Patch]:
    """Yields the patches of 16 kHz audio in chunks of any size, each patch as soon as the audio allows.

    The total is clock.frames_for(all samples) patches.
    """
    done, sharpening = 0, Sharpening()
    for features in _encode(encoder, chunks, clock):
        for first in range(0, len(features), batch_frames):
            batch = features[first : first + batch_frames]
            yield from avatar.render(done, start_index, batch, sharpening)
            done += len(batch)


def _encode(encoder: SpeechEncoder, chunks: Iterable[Samples], clock: FrameClock) -> Iterator[Features]:
    stream = encoder.start_stream(clock)
    for chunk in _with_lookahead(stream, chunks) if isinstance(stream, LookaheadStream) else chunks:
        yield stream.push_audio(chunk)
    yield stream.finish()


def _with_lookahead(stream: LookaheadStream, chunks: Iterable[Samples]) -> Iterator[Samples]:
    """Yields the same audio in chunks of half a second, and shows the following audio to the stream before each."""
    source, pending, more = iter(chunks), np.zeros(0, np.float32), True
    while more or len(pending):
        parts = [pending]
        while more and sum(map(len, parts)) < AHEAD_SAMPLES:
            chunk = next(source, None)
            more = chunk is not None
            parts += [] if chunk is None else [chunk]
        pending = np.concatenate(parts)
        stream.look_ahead(pending[:AHEAD_SAMPLES], last=not more and len(pending) <= AHEAD_SAMPLES)
        yield pending[:_SLICE_SAMPLES]
        pending = pending[_SLICE_SAMPLES:]
