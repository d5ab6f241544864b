"""Idle frames in front of a recorded utterance, when the idle time before was longer than the kept part.

The head has moved during the idle time that was left out. The frames therefore follow the source track on which the
last clip ended, then change with a short cross-fade, at the position where both tracks are most alike, to the track
that plays now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.media.i420 import I420, planes

_HALF_FRAMES = 3
"""Frames of the cross-fade on either side of the middle."""
_COMPARE_SIZE = (64, 36)
"""Width and height of the images that are compared, in pixels."""


def crossfade_idle(composite: Callable[[int], I420], after: int, before: int, frames: int) -> Iterator[I420]:
    """Yields `frames` images between source index `after`, where the last clip would continue, and source index
    `before`, where the speech begins. `composite` returns the source image of an index.
    """
    leaving, arriving = range(after, after + frames), range(before - frames, before)
    if leaving == arriving:
        yield from map(composite, arriving)
        return
    half = min(_HALF_FRAMES, frames // 2)
    middles = range(half, frames - half + 1)
    middle = min(middles, key=lambda k: _difference(composite, after + k, before - frames + k))
    for k in range(frames):
        weight = float(np.clip((k - (middle - half) + 0.5) / (2 * half), 0, 1)) if half else 1.0
        if weight in (0.0, 1.0):
            yield composite((leaving, arriving)[int(weight)][k])
        else:
            mixed = cv2.addWeighted(composite(arriving[k]), weight, composite(leaving[k]), 1 - weight, 0)
            yield np.asarray(mixed, np.uint8)


def _difference(composite: Callable[[int], I420], one: int, other: int) -> float:
    """Returns the mean absolute difference in luma of two source images."""
    return float(np.abs(_thumbnail(composite(one)) - _thumbnail(composite(other))).mean())


def _thumbnail(image: I420) -> npt.NDArray[np.int16]:
    return cv2.resize(planes(image)[0], _COMPARE_SIZE, interpolation=cv2.INTER_AREA).astype(np.int16)
