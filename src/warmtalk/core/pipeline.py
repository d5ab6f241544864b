"""From sound to patches, offline, on one page. The live path draws with the same WarmAvatar: same sound, same frames.

pieces of sound ─ encoder ─► features, one row a frame ─ renderer ─► faces 256 x 256 ─ blend ─► patches
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
_NOTHING = Box(0, 0, 0, 0)
_REGION_BYTES = 256 << 20
_SLICE_SAMPLES = SPEECH_RATE_HZ // 2


@dataclass(frozen=True, slots=True)
class RenderModel:
    """A speech encoder and the renderer that understands its features."""

    encoder: SpeechEncoder
    renderer: FaceRenderer[Any]
    blending: Blending = PLAIN
    """How its faces are brought into their frames."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """Frames of one utterance, before they are drawn."""

    avatar: WarmAvatar
    first_frame: int
    rows: list[int]
    """Source row of each frame."""
    positions: list[int]
    """Which of them have a face to draw."""
    features: Features
    """Of those."""

    @property
    def face_rows(self) -> list[int]:
        """Source rows to draw a face for."""
        return [self.rows[position] for position in self.positions]


class WarmAvatar:
    """One avatar, loaded for one renderer and kept between utterances. One thread only, but for `paste`."""

    def __init__(self, bundle: Bundle, renderer: FaceRenderer[Any], blending: Blending = PLAIN) -> None:
        """Avatars of the reference, whose faces lie in whole pixels, are blended as there whatever `blending` says."""
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
        """Patches of the frames first_frame, first_frame + 1, ..., one per feature row.

        `start_index` is the place in the avatar's forth-and-back cycle of frame 0. A source row without a usable face
        gives a patch with an empty box. `sharpening` is the utterance's, which knows the frame before.
        """
        plan = self.plan_batch(first_frame, start_index, features)
        faces = self._renderer.render(self._prepared, plan.face_rows, plan.features)
        return self.paste_faces(plan, faces, sharpening or Sharpening())

    def plan_batch(self, first_frame: int, start_index: int, features: Features) -> BatchPlan:
        """What `draw` draws, for those who render many avatars at once."""
        rows = [cycle_row(start_index + first_frame + i, len(self.bundle)) for i in range(len(features))]
        places = [place for place, row in enumerate(rows) if self.bundle.usable(row)]
        return BatchPlan(self, first_frame, rows, places, features[places])

    def prepare_rows(self) -> Iterator[None]:
        """Makes ready what is kept of each source row, one row a step, so that first frames take no longer than
        others; as many rows as are kept. On the thread that draws.
        """
        if not isinstance(self._renderer, RowRenderer):
            return
        for row in range(min(len(self.bundle), self._renderer.cached_rows)):
            if self.bundle.usable(row) and self._region_bytes < _REGION_BYTES:
                self._renderer.prepare_row(self._prepared, row)
                self._region(row)
                yield

    def face_jobs(self, plan: BatchPlan) -> list[FaceJob[Any]]:
        return [FaceJob(self._prepared, row, one) for row, one in zip(plan.face_rows, plan.features, strict=True)]

    def paste_faces(self, plan: BatchPlan, faces: list[Image], sharpening: Sharpening) -> list[Patch]:
        """Faces of plan.face_rows, in that order. May run in another thread than the rest; plans in order."""
        drawn = dict(zip(plan.positions, faces, strict=True))
        return [
            Patch(plan.first_frame + place, row, *self._pasted(row, drawn.get(place), sharpening))
            for place, row in enumerate(plan.rows)
        ]

    def _pasted(self, row: int, face: Image | None, sharpening: Sharpening) -> tuple[Box, Image]:
        if face is None:
            sharpening.reset()
            return _NOTHING, np.empty((0, 0, 3), np.uint8)
        if self._blending.sharpen:
            place = self.bundle.paste_box(row)
            face = sharpening(face, max(place.width, place.height) / FACE_SIZE)
        return self._region(row).blend(face)

    def _region(self, row: int) -> BlendRegion:
        with self._lock:
            region = self._regions.get(row)
            if region is None:
                bundle = self.bundle
                place, crop = bundle.paste_box(row), bundle.crop_box(row)
                region = BlendRegion(bundle.frame(row), bundle.mask(row), place, crop, self._blending)
                self._regions[row] = region
                self._region_bytes += region.nbytes
                while self._region_bytes > _REGION_BYTES and len(self._regions) > 1:
                    _, old = self._regions.popitem(last=False)
                    self._region_bytes -= old.nbytes
            self._regions.move_to_end(row)
            return region


def submit_faces(
    renderer: FaceRenderer[Any], plans: Sequence[BatchPlan]
) -> Callable[[], list[RenderedFaces | Exception]]:
    """Starts on the faces of each plan. What it returns waits for them, on any thread, once.

    Those of one utterance, or why they failed, do not harm the others'. All at once where the renderer can, else one
    plan after the other, here and now.
    """
    if not isinstance(renderer, BatchRenderer):
        drawn = [_alone(renderer, plan) for plan in plans]
        return lambda: drawn
    try:
        waiting = renderer.submit_batch([job for plan in plans for job in plan.avatar.face_jobs(plan)])
    except Exception as error:  # noqa: BLE001 - the caller tells whose it is
        failed: list[RenderedFaces | Exception] = [error] * len(plans)
        return lambda: failed
    return lambda: _shared_out(plans, waiting)


def _alone(renderer: FaceRenderer[Any], plan: BatchPlan) -> RenderedFaces | Exception:
    try:
        jobs = plan.avatar.face_jobs(plan)
        return renderer.render(jobs[0].avatar, plan.face_rows, plan.features) if jobs else []
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _shared_out(
    plans: Sequence[BatchPlan], waiting: Callable[[], list[Image | WarmtalkError]]
) -> list[RenderedFaces | Exception]:
    try:
        drawn = iter(waiting())
    except Exception as error:  # noqa: BLE001 - as above
        return [error] * len(plans)
    shares: list[RenderedFaces | Exception] = []
    for plan in plans:
        faces = list(islice(drawn, len(plan.positions)))
        wrong = next((face for face in faces if isinstance(face, WarmtalkError)), None)
        shares.append(wrong or [face for face in faces if not isinstance(face, WarmtalkError)])
    return shares


def render(
    avatar: WarmAvatar,
    encoder: SpeechEncoder,
    pieces: Iterable[Samples],
    clock: FrameClock,
    *,
    start_index: int = 0,
    batch_frames: int = 4,
) -> Iterator[Patch]:
    """16 kHz sound in pieces of any size to patches, clock.frames_for(all samples) of them, as soon as they can be."""
    done, sharpening = 0, Sharpening()
    for features in _hear(encoder, pieces, clock):
        for first in range(0, len(features), batch_frames):
            batch = features[first : first + batch_frames]
            yield from avatar.render(done, start_index, batch, sharpening)
            done += len(batch)


def _hear(encoder: SpeechEncoder, pieces: Iterable[Samples], clock: FrameClock) -> Iterator[Features]:
    stream = encoder.start_stream(clock)
    for piece in _shown(stream, pieces) if isinstance(stream, LookaheadStream) else pieces:
        yield stream.push_audio(piece)
    yield stream.finish()


def _shown(stream: LookaheadStream, pieces: Iterable[Samples]) -> Iterator[Samples]:
    """The same sound, half a second at a time, after the stream has seen what follows."""
    source, waiting, more = iter(pieces), np.zeros(0, np.float32), True
    while more or len(waiting):
        parts = [waiting]
        while more and sum(map(len, parts)) < AHEAD_SAMPLES:
            piece = next(source, None)
            more = piece is not None
            parts += [] if piece is None else [piece]
        waiting = np.concatenate(parts)
        stream.look_ahead(waiting[:AHEAD_SAMPLES], last=not more and len(waiting) <= AHEAD_SAMPLES)
        yield waiting[:_SLICE_SAMPLES]
        waiting = waiting[_SLICE_SAMPLES:]
