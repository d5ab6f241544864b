"""A photo that is alive."""

from __future__ import annotations

from collections.abc import Iterator

from services.prep.scan import Sighting
from warmtalk.core.types import Image, Points


class StillMotion:
    def __init__(self, image: Image, landmarks: Points, frames: int, fps: float) -> None:
        self._image = image
        self._landmarks = landmarks
        self.expected = frames

    def __iter__(self) -> Iterator[Image]:
        for _ in range(self.expected):
            yield self._image

    def look(self, index: int, image: Image) -> list[Sighting]:
        return [Sighting(1.0, self._landmarks)]
