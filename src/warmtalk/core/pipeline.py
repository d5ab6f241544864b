"""From sound to patches, offline, on one page. The live path draws with the same WarmAvatar: same sound, same frames.

pieces of sound ─ encoder ─► features, one row a frame ─ renderer ─► faces 256 x 256 ─ blend ─► patches
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from warmtalk.core.blend import BlendRegion
from warmtalk.core.bundle import Bundle
from warmtalk.core.ports import FaceRenderer, SpeechEncoder
from warmtalk.core.types import Box, Features, FrameClock, Patch, Samples, cycle_row

_NOTHING = Box(0, 0, 0, 0)
_REGION_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Model:
    """A speech encoder and the renderer that understands its features."""

    encoder: SpeechEncoder
    renderer: FaceRenderer[Any]


class WarmAvatar:
    """One avatar, loaded for one renderer and kept between utterances. One thread only."""

    def __init__(self, bundle: Bundle, renderer: FaceRenderer[Any]) -> None:
        self.bundle = bundle
        self._renderer = renderer
        self._prepared = renderer.prepare(bundle)
        self._regions: OrderedDict[int, BlendRegion] = OrderedDict()
        self._region_bytes = 0

    @property
    def nbytes(self) -> int:
        """Memory held now."""
        return self.bundle.nbytes + self._region_bytes + int(self._prepared.nbytes)

    def draw(self, first_frame: int, start_index: int, features: Features) -> list[Patch]:
        """Patches of the frames first_frame, first_frame + 1, ..., one per feature row.

        `start_index` is the place in the avatar's forth-and-back cycle of frame 0. A source row without a usable face
        gives a patch with an empty box.
        """
        frames = range(first_frame, first_frame + len(features))
        rows = [cycle_row(start_index + frame, len(self.bundle)) for frame in frames]
        drawn = [place for place, row in enumerate(rows) if self.bundle.usable(row)]
        faces = self._renderer.render(self._prepared, [rows[place] for place in drawn], features[drawn])
        found = {place: self._region(rows[place]).blend(face) for place, face in zip(drawn, faces, strict=True)}
        return [
            Patch(frame, row, *found.get(place, (_NOTHING, np.empty((0, 0, 3), np.uint8))))
            for place, (frame, row) in enumerate(zip(frames, rows, strict=True))
        ]

    def _region(self, row: int) -> BlendRegion:
        region = self._regions.get(row)
        if region is None:
            bundle = self.bundle
            region = BlendRegion(bundle.frame(row), bundle.mask(row), bundle.box(row), bundle.crop_box(row))
            self._regions[row] = region
            self._region_bytes += region.nbytes
            while self._region_bytes > _REGION_BYTES and len(self._regions) > 1:
                _, old = self._regions.popitem(last=False)
                self._region_bytes -= old.nbytes
        self._regions.move_to_end(row)
        return region


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
    done = 0
    for features in _hear(encoder, pieces, clock):
        for first in range(0, len(features), batch_frames):
            batch = features[first : first + batch_frames]
            yield from avatar.draw(done, start_index, batch)
            done += len(batch)


def _hear(encoder: SpeechEncoder, pieces: Iterable[Samples], clock: FrameClock) -> Iterator[Features]:
    stream = encoder.start_stream(clock)
    for piece in pieces:
        yield stream.accept(piece)
    yield stream.finish()
