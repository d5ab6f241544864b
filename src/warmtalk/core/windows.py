"""Feature window of each video frame: ten steps of 20 ms, as indices into the features of the whole audio.

An index map is [frames, 10] int32; -1 stands for a step before or after the audio, where the feature is zero.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock

WINDOW_STEPS = 10
"""Steps in the window of one frame."""
STEPS_PER_SECOND = 50
STEP_SAMPLES = SPEECH_RATE_HZ // STEPS_PER_SECOND
"""16 kHz samples in one step."""

IndexMap = npt.NDArray[np.int32]
"""[frames, 10]; -1 outside the audio."""


def first_step(frame: int, fps: Fraction) -> int:
    """Returns the first step of the window centred on the frame; may be negative.

    The centre of frame i is step (i + 1/2) * 50 / fps; the centre of a window is the first step + 5. Of two equally
    near windows the earlier one is used, which gives the windows of the reference at 25 and 30 fps. Integer arithmetic,
    exact at any length.
    """
    n, d = fps.numerator, fps.denominator
    return -((11 * n - STEPS_PER_SECOND * (2 * frame + 1) * d) // (2 * n))


def end_step(frame: int, fps: Fraction) -> int:
    """Returns the end of the window (exclusive): all audio before this step must be known."""
    return first_step(frame, fps) + WINDOW_STEPS


def steps_in(samples: int) -> int:
    """Returns the number of steps in 16 kHz samples; a partial step counts as a whole step."""
    return -(-samples // STEP_SAMPLES)


def centred(samples: int, clock: FrameClock) -> IndexMap:
    """Returns the windows of the whole audio, centred at every frame rate: clock.frames_for(samples) windows."""
    frames = clock.frames_for(samples, SPEECH_RATE_HZ)
    first = np.array([first_step(frame, clock.fps) for frame in range(frames)], np.int64)
    return _indices(first, steps_in(samples))


def reference(samples: int, fps: float) -> IndexMap:
    """Returns the windows of the scripts of MuseTalk (commit 0a89dec), defects included: for comparison only.

    The scripts truncate the rate to an integer, drop a last partial frame, and place the window before the frame below
    25 fps. Raises InvalidInput from 50 fps, which the scripts do not support.
    """
    fps = int(fps)
    ratio = STEPS_PER_SECOND / fps
    if ratio <= 1:
        raise InvalidInput(f"the reference does not support {fps} fps", "Use less than 50", field="fps")
    seconds = samples / SPEECH_RATE_HZ
    frames, steps = math.floor(seconds * fps), math.floor(seconds * STEPS_PER_SECOND)
    first = [math.floor(frame * ratio) - 2 * math.ceil(ratio) for frame in range(frames)]
    return _indices(np.array(first, np.int64), steps)


def _indices(first: npt.NDArray[np.int64], steps: int) -> IndexMap:
    index = first.reshape(-1, 1) + np.arange(WINDOW_STEPS)
    return np.where((index >= 0) & (index < steps), index, -1).astype(np.int32)
