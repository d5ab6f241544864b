"""Cache of decoded source frames, and composition of patches with source frames.

Call from worker threads only: decoding blocks.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from warmtalk.core.bundle import SEGMENT_FRAMES, Bundle
from warmtalk.core.bundle_files import AvatarInfo, read_info
from warmtalk.core.types import Box, Patch
from warmtalk.media.i420 import I420, paste_patch, to_i420
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_MIN_SEGMENTS = 3
"""Number of segments kept at any limit: the playing segment and its two neighbours."""


class SourceFrames:
    """The decoded source frames of one avatar, as an LRU cache of segments.

    A thread of the cache decodes each segment, and decodes the neighbours of the playing segment in advance.
    Thread-safe.
    """

    def __init__(self, bundle: Bundle, limit_bytes: int) -> None:
        self._bundle = bundle
        self._limit = limit_bytes
        width, height = bundle.info.width, bundle.info.height
        self._segment_bytes = min(bundle.info.stored, SEGMENT_FRAMES) * width * height * 3 // 2
        self._lock = threading.Lock()
        self._segments: OrderedDict[int, Future[list[I420]]] = OrderedDict()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="frames")

    def __len__(self) -> int:
        return len(self._bundle)

    @property
    def info(self) -> AvatarInfo:
        """Content of avatar.json."""
        return self._bundle.info

    @property
    def nbytes(self) -> int:
        """Upper bound of the memory of the cached frames."""
        return len(self._segments) * self._segment_bytes

    def usable(self, row: int) -> bool:
        """Returns whether the row has a usable face."""
        return self._bundle.usable(row)

    def crop_box(self, row: int) -> Box:
        """Returns the area of the frame that a patch of this row may change."""
        return self._bundle.crop_box(row)

    def source_frame(self, row: int) -> I420:
        """Returns the source frame of this row, shared with other callers: do not modify. Raises Damaged."""
        number, offset = divmod(row + self.info.first_frame, SEGMENT_FRAMES)
        with self._lock:
            segment = self._segment(number)
            for neighbour in (number - 1, number + 1):
                if 0 <= neighbour * SEGMENT_FRAMES < self.info.stored:
                    self._segment(neighbour)
            self._segments.move_to_end(number)
            self._evict()
        return segment.result()[offset]

    def composite(self, patch: Patch) -> I420:
        """Returns the frame with the patch pasted in. An empty patch gives the shared source frame."""
        source = self.source_frame(patch.row)
        if patch.box.empty:
            return source
        frame = source.copy()
        paste_patch(frame, patch.box, patch.pixels)
        return frame

    def _segment(self, number: int) -> Future[list[I420]]:
        segment = self._segments.get(number)
        if segment is None or (segment.done() and segment.exception() is not None):
            segment = self._segments[number] = self._loader.submit(self._load, number)
        return segment

    def _load(self, number: int) -> list[I420]:
        return [to_i420(image) for image in self._bundle.segment_frames(number)]

    def _evict(self) -> None:
        while self.nbytes > self._limit and len(self._segments) > _MIN_SEGMENTS:
            self._segments.popitem(last=False)


class SourceFrameCache:
    """LRU cache of opened avatars, bounded by the bytes of the cached frames. Thread-safe."""

    def __init__(self, store: AvatarStore, limit_bytes: int) -> None:
        self._store = store
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, SourceFrames] = OrderedDict()

    def get(self, avatar_id: str) -> SourceFrames:
        """Returns the current version of the avatar on the volume.

        Raises InvalidInput, NotFound, NotReady (still building), Damaged.
        """
        info = read_info(self._store.find(avatar_id))
        with self._lock:
            frames = self._open.get(avatar_id)
            if frames is None or frames.info != info:
                frames = SourceFrames(self._store.open(avatar_id), self._limit)
                self._open[avatar_id] = frames
            self._open.move_to_end(avatar_id)
            while len(self._open) > 1 and sum(one.nbytes for one in self._open.values()) > self._limit:
                old, _ = self._open.popitem(last=False)
                log.info("avatar %s is evicted from the cache", old)
            return frames
