"""Makes the pictures of a live stream and codes them. Worker threads only."""

from __future__ import annotations

import cv2

from services.session.live_director import Shot
from warmtalk.core.bundle import Bundle
from warmtalk.core.types import Box, Image, Patch, cycle_row
from warmtalk.media.encode import I420, to_i420
from warmtalk.media.live import Fragment, LiveEncoder, LiveSettings


class Stage:
    """One stream. One thread at a time, but for `picture`."""

    def __init__(self, bundle: Bundle, settings: LiveSettings) -> None:
        self._bundle = bundle
        width, height = bundle.info.width, bundle.info.height
        self.encoder = LiveEncoder(width + width % 2, height + height % 2, settings)

    def shoot(self, shot: Shot, flush: bool) -> tuple[I420, Fragment | None]:
        """The picture, and the fragment that is full with it."""
        picture = self.picture(shot)
        return picture, self.encoder.write(picture, shot.sound, flush=flush)

    def picture(self, shot: Shot) -> I420:
        """Any thread."""
        row = cycle_row(shot.index, len(self._bundle))
        source = self._bundle.frame(row)
        if shot.patch is None or shot.patch.box.empty or not self._bundle.usable(row):
            return to_i420(source)
        return to_i420(self._mixed(source, row, shot.patch, shot.mix))

    def close(self) -> None:
        self.encoder.close()

    def _mixed(self, source: Image, row: int, patch: Patch, mix: float) -> Image:
        box = self._place(row, patch)
        frame = source.copy()
        part = frame[box.y1 : box.y2, box.x1 : box.x2]
        part[:] = patch.pixels if mix >= 1 else cv2.addWeighted(patch.pixels, mix, part, 1 - mix, 0)
        return frame

    def _place(self, row: int, patch: Patch) -> Box:
        """Where a patch lies on this row: with the face, which moves from row to row."""
        if row == patch.row:
            return patch.box
        now, then = self._bundle.crop_box(row), self._bundle.crop_box(patch.row)
        right, down = (now.x1 + now.x2 - then.x1 - then.x2) // 2, (now.y1 + now.y2 - then.y1 - then.y2) // 2
        box = patch.box
        width, height = self._bundle.info.width, self._bundle.info.height
        right = min(max(right, -box.x1), width - box.x2)
        down = min(max(down, -box.y1), height - box.y2)
        return Box(box.x1 + right, box.y1 + down, box.x2 + right, box.y2 + down)
