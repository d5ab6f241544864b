"""The nouns. Read this file first.

Pictures are H x W x 3 uint8 BGR. Boxes are half-open pixel boxes (x1, y1, x2, y2) in frame coordinates
and may lie partly outside the frame. Sound is mono float32 in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]
"""[H, W, 3] uint8 BGR."""
Mask: TypeAlias = npt.NDArray[np.uint8]
"""[H, W] uint8, 0 keeps the source, 255 takes the generated face."""
Samples: TypeAlias = npt.NDArray[np.float32]
"""[n] float32 mono in [-1, 1]."""
Features: TypeAlias = npt.NDArray[np.float32]
"""[frames, ...] float32, one row per video frame; the trailing shape belongs to the speech encoder."""
Points: TypeAlias = npt.NDArray[np.float32]
"""[K, 2] float32 pixel coordinates (x, y)."""

SPEECH_RATE_HZ = 16_000
"""Rate of the sound that speech encoders hear."""
CLIP_RATE_HZ = 48_000
"""Rate of the sound that people hear."""
FACE_SIZE = 256
"""Side of the square face that a renderer draws, in pixels."""


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open pixel box; may lie partly outside the frame, never inside out."""

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise ValueError(f"box is inside out: {self}")

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    @property
    def empty(self) -> bool:
        return self.width == 0 or self.height == 0

    def clipped(self, width: int, height: int) -> Box:
        """The part inside a frame of this size; an empty box when nothing is."""
        x1, x2 = (min(max(x, 0), width) for x in (self.x1, self.x2))
        y1, y2 = (min(max(y, 0), height) for y in (self.y1, self.y2))
        return Box(x1, y1, x2, y2)

    def as_tuple(self) -> tuple[int, int, int, int]:
        return (self.x1, self.y1, self.x2, self.y2)


@dataclass(frozen=True, slots=True)
class FloatBox:
    """Where a face lies in its frame, to parts of a pixel: edges of a box, in the same coordinates as `Box`."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    def as_tuple(self) -> tuple[float, float, float, float]:
        return (self.x1, self.y1, self.x2, self.y2)

    def box(self) -> Box:
        """The nearest whole pixels."""
        return Box(round(self.x1), round(self.y1), round(self.x2), round(self.y2))


@dataclass(frozen=True, slots=True)
class FrameClock:
    """Exact time of frames and samples: frame k starts at sample round(k * rate / fps).

    Counting from the start of the conversation, not of the clip, keeps sound and picture together
    for hours also where a frame is not a whole number of samples (29.97 fps).
    """

    fps: Fraction = Fraction(25)

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 120:
            raise ValueError(f"fps must be from 1 to 120, not {self.fps}")

    def samples_at(self, frame: int, rate_hz: int) -> int:
        """Samples before the start of `frame`."""
        return round(frame * rate_hz / self.fps)

    def frames_for(self, samples: int, rate_hz: int) -> int:
        """Frames that a sound of `samples` needs; a part of a frame counts as a whole one."""
        frames = -(-samples * self.fps // rate_hz)
        return int(frames)

    def seconds_at(self, frame: int) -> float:
        return float(frame / self.fps)


def cycle_row(index: int, rows: int) -> int:
    """Source row shown at frame `index` when `rows` source frames are played forth and back.

    The reference mirrors its lists (x + reversed(x)), so the first and the last row show twice in a row.
    """
    place = index % (2 * rows)
    return place if place < rows else 2 * rows - 1 - place


@dataclass(frozen=True, slots=True)
class Patch:
    """What changes in one frame: `pixels` replace `box`. An empty box means the source frame as it is."""

    frame: int
    """Frame of the utterance, from 0."""
    row: int
    """Source row of the avatar that it is pasted on."""
    box: Box
    """Inside the frame."""
    pixels: Image
    """[box.height, box.width, 3] uint8 BGR."""

    def __post_init__(self) -> None:
        if self.pixels.shape != (self.box.height, self.box.width, 3):
            raise ValueError(f"pixels {self.pixels.shape} do not fill {self.box}")
