"""Which speech features each video frame sees: ten steps of 20 ms, as indices into the features of the whole sound.

An index map is [frames, 10] int32; -1 stands for a step before or after the sound, whose feature is zero.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock

WINDOW_STEPS = 10
STEPS_PER_SECOND = 50
STEP_SAMPLES = SPEECH_RATE_HZ // STEPS_PER_SECOND

IndexMap = npt.NDArray[np.int32]


def first_step(frame: int, fps: Fraction) -> int:
    """First step of the window whose middle is nearest to the middle of the frame; may be negative.

    The middle of frame i is step (i + 1/2) * 50 / fps, that of the window its first step + 5. Of two that are as near
    the earlier is taken: then 25 and 30 fps have the reference's windows. Whole numbers only, so exact at any length.
    """
    n, d = fps.numerator, fps.denominator
    return -((11 * n - STEPS_PER_SECOND * (2 * frame + 1) * d) // (2 * n))


def end_step(frame: int, fps: Fraction) -> int:
    """The step after the last of the frame's window: all sound before it must be there."""
    return first_step(frame, fps) + WINDOW_STEPS


def steps_in(samples: int) -> int:
    """Steps of a sound of 16 kHz samples; a part of a step counts as a whole one."""
    return -(-samples // STEP_SAMPLES)


def centred(samples: int, clock: FrameClock) -> IndexMap:
    """Windows of a whole sound, centred at every rate: clock.frames_for(samples) of them, so that none is lost."""
    frames = clock.frames_for(samples, SPEECH_RATE_HZ)
    first = np.array([first_step(frame, clock.fps) for frame in range(frames)], np.int64)
    return _indices(first, steps_in(samples))


def reference(samples: int, fps: float) -> IndexMap:
    """Windows of MuseTalk's scripts (commit 0a89dec), defects included: for comparison only.

    The rate is cut to a whole number, a last part of a frame is dropped, and below 25 fps the window lies before the
    frame. Raises InvalidInput from 50 fps, where those scripts stop.
    """
    fps = int(fps)
    ratio = STEPS_PER_SECOND / fps
    if ratio <= 1:
        raise InvalidInput(f"the reference cannot do {fps} fps", "Use less than 50", field="fps")
    seconds = samples / SPEECH_RATE_HZ
    frames, steps = math.floor(seconds * fps), math.floor(seconds * STEPS_PER_SECOND)
    first = [math.floor(frame * ratio) - 2 * math.ceil(ratio) for frame in range(frames)]
    return _indices(np.array(first, np.int64), steps)


def _indices(first: npt.NDArray[np.int64], steps: int) -> IndexMap:
    index = first.reshape(-1, 1) + np.arange(WINDOW_STEPS)
    return np.where((index >= 0) & (index < steps), index, -1).astype(np.int32)
