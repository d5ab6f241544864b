"""The idle pictures between two recorded clips: no jump where idle time was left out."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from warmtalk.core.types import cycle_row
from warmtalk.media.i420 import I420, to_i420
from warmtalk.services.session.live.crossfade import crossfade_idle

ROWS = 60


def nodding(index: int) -> I420:
    """A bright disc that goes down and up with the source's cycle."""
    image = np.full((72, 128, 3), 40, np.uint8)
    cv2.circle(image, (64, 12 + int(48 * cycle_row(index, ROWS) / ROWS)), 9, (220, 220, 220), -1)
    return to_i420(cv2.GaussianBlur(image, (0, 0), 2))


def steps(after: int, before: int, frames: int) -> list[float]:
    """Mean changes from the last picture of the clip before to the first of the speech."""
    shown = [nodding(after - 1), *crossfade_idle(nodding, after, before, frames), nodding(before)]
    assert len(shown) == frames + 2
    return [float(np.abs(b.astype(int) - a).mean()) for a, b in itertools.pairwise(shown)]


def test_nothing_left_out_is_shown_as_it_was() -> None:
    made = list(crossfade_idle(nodding, 30, 38, 8))
    assert all(np.array_equal(picture, nodding(30 + k)) for k, picture in enumerate(made))


@pytest.mark.parametrize("gap", [40, 57, 88, 119, 200])
def test_a_cut_is_dissolved_where_the_head_is_alike(gap: int) -> None:
    usual = max(steps(30, 45, 15))
    assert np.abs(nodding(29).astype(int) - nodding(30 + gap - 15)).mean() > 3.5 * usual, "a cut would be seen"
    assert max(steps(30, 30 + gap, 15)) < 3 * usual


@pytest.mark.parametrize("frames", range(6))
def test_short_ones_have_their_length(frames: int) -> None:
    assert len(steps(30, 80, frames)) == frames + 1
