"""Source frames kept warm, and a patch pasted on one of them. Worker threads only: decoding takes time."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from warmtalk.core.bundle import Bundle, read_info
from warmtalk.core.types import Image, Patch
from warmtalk.media.encode import I420, to_i420
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)


class Avatars:
    """Opened bundles, least recently used out first, bounded by the bytes of their decoded frames. Thread-safe."""

    def __init__(self, store: AvatarStore, limit_bytes: int) -> None:
        self._store = store
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Bundle] = OrderedDict()

    def get(self, avatar_id: str) -> Bundle:
        """As it is on the volume now. Raises InvalidInput, NotFound, NotReady (still building), Damaged."""
        info = read_info(self._store.find(avatar_id))
        with self._lock:
            bundle = self._open.get(avatar_id)
            if bundle is None or bundle.info != info:
                bundle = self._store.open(avatar_id, cache_bytes=self._limit)
                self._open[avatar_id] = bundle
            self._open.move_to_end(avatar_id)
            while len(self._open) > 1 and sum(one.nbytes for one in self._open.values()) > self._limit:
                old, _ = self._open.popitem(last=False)
                log.info("avatar %s makes room", old)
            return bundle


def paste(source: Image, patch: Patch) -> Image:
    """`source` with the patch on it; `source` itself, unchanged, when the patch is empty."""
    if patch.box.empty:
        return source
    box = patch.box
    frame = source.copy()
    frame[box.y1 : box.y2, box.x1 : box.x2] = patch.pixels
    return frame


def compose(bundle: Bundle, patch: Patch) -> I420:
    """The finished picture of one frame, as the encoder takes it."""
    return to_i420(paste(bundle.frame(patch.row), patch))
