"""LRU cache of loaded avatars, bounded by bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator

from warmtalk.core.bundle_files import AvatarInfo, read_info
from warmtalk.core.pipeline import RenderModel, WarmAvatar
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_FRAME_BYTES = 64 << 20
"""Limit of decoded source frames per avatar."""


class AvatarCache:
    """Loaded avatars by avatar id and renderer name. The least recently used avatar is evicted first; one always stays.

    Render thread only, except `names` and `nbytes`, which other threads read for display.
    """

    def __init__(self, store: AvatarStore, limit_bytes: int) -> None:
        self._store = store
        self._limit = limit_bytes
        self._warm: OrderedDict[tuple[str, str], WarmAvatar] = OrderedDict()
        self._unprepared_rows: Iterator[None] = iter(())

    @property
    def names(self) -> list[str]:
        """Ids of the loaded avatars, least recently used first."""
        return [avatar_id for avatar_id, _ in list(self._warm)]

    @property
    def nbytes(self) -> int:
        """Memory held by the loaded avatars."""
        return sum(avatar.nbytes for avatar in list(self._warm.values()))

    def prepare_next_row(self) -> bool:
        """Prepares one more row of the avatar that was loaded last. Returns False when all rows are prepared."""
        try:
            return next(self._unprepared_rows, self) is None
        except Exception as error:  # noqa: BLE001 - the stream that renders the row reports the error to its client
            log.warning("could not prepare a row of an avatar: %s", error)
            return False

    def info(self, avatar_id: str) -> AvatarInfo:
        """Reads avatar.json. Raises InvalidInput, NotFound, NotReady or Damaged."""
        return read_info(self._store.find(avatar_id))

    def get(self, avatar_id: str, renderer: str, model: RenderModel) -> WarmAvatar:
        """Returns the avatar for the renderer of this name. Loads the avatar if it is not loaded, or if avatar.json has
        changed on the volume since then.
        """
        key = (avatar_id, renderer)
        info = self.info(avatar_id)
        warm = self._warm.get(key)
        if warm is None or warm.bundle.info != info:
            log.info("loading avatar %s for %s", avatar_id, renderer)
            warm = WarmAvatar(self._store.open(avatar_id, cache_bytes=_FRAME_BYTES), model.renderer, model.blending)
            self._warm[key] = warm
            self._unprepared_rows = warm.prepare_rows()
        self._warm.move_to_end(key)
        while self.nbytes > self._limit and len(self._warm) > 1:
            (evicted, _), _ = self._warm.popitem(last=False)
            log.info("evicted avatar %s from the cache", evicted)
        return warm
