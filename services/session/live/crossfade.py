"""The idle pictures in front of a recorded utterance, where the idle time between was longer than is kept.

The head has moved on meanwhile. So the pictures go from the track that the last clip ended on to the one that plays
now where both look most alike, through a short dissolve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.media.i420 import I420, planes

_HALF = 3
"""Frames of the dissolve on either side."""
_SMALL = (64, 36)


def crossfade_idle(draw: Callable[[int], I420], after: int, before: int, frames: int) -> Iterator[I420]:
    """So many pictures between source index `after`, where the last clip would go on, and `before`, where the speech
    begins. `draw` gives the source picture of an index.
    """
    leave, arrive = range(after, after + frames), range(before - frames, before)
    if leave == arrive:
        yield from map(draw, arrive)
        return
    half = min(_HALF, frames // 2)
    middle = min(range(half, frames - half + 1), key=lambda k: _unlike(draw, after + k, before - frames + k))
    for k in range(frames):
        share = float(np.clip((k - (middle - half) + 0.5) / (2 * half), 0, 1)) if half else 1.0
        if share in (0.0, 1.0):
            yield draw((leave, arrive)[int(share)][k])
        else:
            mixed = cv2.addWeighted(draw(arrive[k]), share, draw(leave[k]), 1 - share, 0)
            yield np.asarray(mixed, np.uint8)


def _unlike(draw: Callable[[int], I420], one: int, other: int) -> float:
    return float(np.abs(_small(draw(one)) - _small(draw(other))).mean())


def _small(picture: I420) -> npt.NDArray[np.int16]:
    return cv2.resize(planes(picture)[0], _SMALL, interpolation=cv2.INTER_AREA).astype(np.int16)
