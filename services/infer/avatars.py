"""Avatars kept warm, least recently used out first, bounded by bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator

from warmtalk.core.bundle import AvatarInfo, read_info
from warmtalk.core.pipeline import RenderModel, WarmAvatar
from warmtalk.store import AvatarStore

log = logging.getLogger(__name__)

_FRAME_BYTES = 64 << 20


class AvatarCache:
    """Render thread only, but for `names` and `nbytes`, which are for display."""

    def __init__(self, store: AvatarStore, limit_bytes: int) -> None:
        self._store = store
        self._limit = limit_bytes
        self._warm: OrderedDict[tuple[str, str], WarmAvatar] = OrderedDict()
        self._cold: Iterator[None] = iter(())

    @property
    def names(self) -> list[str]:
        return [avatar_id for avatar_id, _ in list(self._warm)]

    @property
    def nbytes(self) -> int:
        return sum(avatar.nbytes for avatar in list(self._warm.values()))

    def warm_on(self) -> bool:
        """Makes one more row of the avatar that was loaded last ready; whether there was one."""
        try:
            return next(self._cold, self) is None
        except Exception as error:  # noqa: BLE001 - who draws the row is told
            log.warning("an avatar was not made ready: %s", error)
            return False

    def info(self, avatar_id: str) -> AvatarInfo:
        """Raises InvalidInput, NotFound, NotReady, Damaged."""
        return read_info(self._store.find(avatar_id))

    def get(self, avatar_id: str, name: str, model: RenderModel) -> WarmAvatar:
        """Loads it unless it is warm and unchanged on the volume. `name` is the model's."""
        key = (avatar_id, name)
        info = self.info(avatar_id)
        warm = self._warm.get(key)
        if warm is None or warm.bundle.info != info:
            log.info("loading avatar %s for %s", avatar_id, name)
            warm = WarmAvatar(self._store.open(avatar_id, cache_bytes=_FRAME_BYTES), model.renderer, model.blending)
            self._warm[key] = warm
            self._cold = warm.prepare_rows()
        self._warm.move_to_end(key)
        while self.nbytes > self._limit and len(self._warm) > 1:
            (old, _), _ = self._warm.popitem(last=False)
            log.info("avatar %s makes room", old)
        return warm
