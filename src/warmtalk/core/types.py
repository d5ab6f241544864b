"""Basic types of the pipeline. Read this file first.

Images are H x W x 3 uint8 BGR. Boxes are half-open pixel boxes (x1, y1, x2, y2) in frame coordinates and may lie
partly outside the frame. Audio is mono float32 in [-1, 1].
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
"""Sample rate of the audio for speech encoders."""
CLIP_RATE_HZ = 48_000
"""Sample rate of the audio in clips and live streams."""
FACE_SIZE = 256
"""Side of the square face that a renderer returns, in pixels."""


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open pixel box; may lie partly outside the frame. Width and height are never negative."""

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise ValueError(f"box has a negative size: {self}")

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    @property
    def empty(self) -> bool:
        """True when the box holds no pixel."""
        return self.width == 0 or self.height == 0

    def clipped(self, width: int, height: int) -> Box:
        """Returns the part inside a frame of this size; an empty box when the box lies outside."""
        x1, x2 = (min(max(x, 0), width) for x in (self.x1, self.x2))
        y1, y2 = (min(max(y, 0), height) for y in (self.y1, self.y2))
        return Box(x1, y1, x2, y2)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """Returns (x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)


@dataclass(frozen=True, slots=True)
class FloatBox:
    """Sub-pixel box of a face: edges in the same coordinates as `Box`."""

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
        """Returns (x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)

    def box(self) -> Box:
        """Returns the box of the nearest whole pixels."""
        return Box(round(self.x1), round(self.y1), round(self.x2), round(self.y2))


@dataclass(frozen=True, slots=True)
class FrameClock:
    """Exact time of frames and samples: frame k starts at sample round(k * rate / fps).

    Frames are counted from the start of the conversation, not of the clip. Audio and video stay in sync for hours,
    also where a frame is not a whole number of samples (29.97 fps).
    """

    fps: Fraction = Fraction(25)
    """Frames per second, 1 to 120."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 120:
            raise ValueError(f"fps must be from 1 to 120, not {self.fps}")

    def samples_at(self, frame: int, rate_hz: int) -> int:
        """Returns the number of samples before the start of `frame`."""
        return round(frame * rate_hz / self.fps)

    def frames_for(self, samples: int, rate_hz: int) -> int:
        """Returns the number of frames that cover `samples`; a partial frame counts as a whole frame."""
        frames = -(-samples * self.fps // rate_hz)
        return int(frames)

    def seconds_at(self, frame: int) -> float:
        """Returns the start of `frame` in seconds."""
        return float(frame / self.fps)


def cycle_row(index: int, rows: int) -> int:
    """Returns the source row of frame `index` when `rows` source frames are played forth and back.

    The reference mirrors its lists (x + reversed(x)), so that the first and the last row appear twice in succession.
    """
    position = index % (2 * rows)
    return position if position < rows else 2 * rows - 1 - position


@dataclass(frozen=True, slots=True)
class Patch:
    """Change of one frame: `pixels` replace `box`. An empty box leaves the source frame unchanged."""

    frame: int
    """Number of the frame in the utterance, from 0."""
    row: int
    """Source row of the avatar that the patch is pasted on."""
    box: Box
    """Position in the frame; lies inside the frame."""
    pixels: Image
    """[box.height, box.width, 3] uint8 BGR."""

    def __post_init__(self) -> None:
        if self.pixels.shape != (self.box.height, self.box.width, 3):
            raise ValueError(f"pixels {self.pixels.shape} do not fill {self.box}")
