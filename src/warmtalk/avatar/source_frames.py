"""Source frames kept ready for the encoder, and patches laid on them. Worker threads only: decoding takes time."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from warmtalk.core.bundle import SEGMENT_FRAMES, AvatarInfo, Bundle, read_info
from warmtalk.core.types import Box, Patch
from warmtalk.media.i420 import I420, paste_patch, to_i420
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_LEAST_SEGMENTS = 3
"""Kept at any limit: the one that plays and those on both sides of it."""


class SourceFrames:
    """The pictures of one avatar. Segments are decoded once, by a thread of its own, those next to the one that plays
    before they are needed; least recently used out first. Thread-safe.
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
        return self._bundle.info

    @property
    def nbytes(self) -> int:
        """Memory of the pictures held now, at most."""
        return len(self._segments) * self._segment_bytes

    def usable(self, row: int) -> bool:
        return self._bundle.usable(row)

    def crop_box(self, row: int) -> Box:
        return self._bundle.crop_box(row)

    def source(self, row: int) -> I420:
        """The source frame of this row. Shared with other callers: do not write into it. Raises Damaged."""
        number, offset = divmod(row + self.info.first_frame, SEGMENT_FRAMES)
        with self._lock:
            segment = self._segment(number)
            for near in (number - 1, number + 1):
                if 0 <= near * SEGMENT_FRAMES < self.info.stored:
                    self._segment(near)
            self._segments.move_to_end(number)
            self._forget()
        return segment.result()[offset]

    def picture(self, patch: Patch) -> I420:
        """The finished picture of one frame. An empty patch gives the source itself, shared."""
        source = self.source(patch.row)
        if patch.box.empty:
            return source
        finished = source.copy()
        paste_patch(finished, patch.box, patch.pixels)
        return finished

    def _segment(self, number: int) -> Future[list[I420]]:
        found = self._segments.get(number)
        if found is None or (found.done() and found.exception() is not None):
            found = self._segments[number] = self._loader.submit(self._load, number)
        return found

    def _load(self, number: int) -> list[I420]:
        return [to_i420(image) for image in self._bundle.segment_frames(number)]

    def _forget(self) -> None:
        while self.nbytes > self._limit and len(self._segments) > _LEAST_SEGMENTS:
            self._segments.popitem(last=False)


class SourceFrameCache:
    """Opened avatars, least recently used out first, bounded by the bytes of their pictures. Thread-safe."""

    def __init__(self, store: AvatarStore, limit_bytes: int) -> None:
        self._store = store
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, SourceFrames] = OrderedDict()

    def get(self, avatar_id: str) -> SourceFrames:
        """As it is on the volume now. Raises InvalidInput, NotFound, NotReady (still building), Damaged."""
        info = read_info(self._store.find(avatar_id))
        with self._lock:
            footage = self._open.get(avatar_id)
            if footage is None or footage.info != info:
                footage = SourceFrames(self._store.open(avatar_id), self._limit)
                self._open[avatar_id] = footage
            self._open.move_to_end(avatar_id)
            while len(self._open) > 1 and sum(one.nbytes for one in self._open.values()) > self._limit:
                old, _ = self._open.popitem(last=False)
                log.info("avatar %s makes room", old)
            return footage
