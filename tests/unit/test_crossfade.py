"""The idle frames between two recorded clips: no jump where idle time was left out."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from warmtalk.core.types import cycle_row
from warmtalk.media.i420 import I420, to_i420
from warmtalk.services.session.live.crossfade import crossfade_idle

ROWS = 60


def moving_disc(index: int) -> I420:
    """Returns a bright disc that moves down and up with the cycle of the source."""
    image = np.full((72, 128, 3), 40, np.uint8)
    cv2.circle(image, (64, 12 + int(48 * cycle_row(index, ROWS) / ROWS)), 9, (220, 220, 220), -1)
    return to_i420(cv2.GaussianBlur(image, (0, 0), 2))


def changes(after: int, before: int, frames: int) -> list[float]:
    """Returns the mean changes from the last frame of the clip before to the first frame of the speech."""
    shown = [moving_disc(after - 1), *crossfade_idle(moving_disc, after, before, frames), moving_disc(before)]
    assert len(shown) == frames + 2
    return [float(np.abs(b.astype(int) - a).mean()) for a, b in itertools.pairwise(shown)]


def test_frames_without_a_gap_are_the_source_frames() -> None:
    images = list(crossfade_idle(moving_disc, 30, 38, 8))
    assert all(np.array_equal(image, moving_disc(30 + k)) for k, image in enumerate(images))


@pytest.mark.parametrize("gap", [40, 57, 88, 119, 200])
def test_gap_is_crossfaded_where_the_images_are_alike(gap: int) -> None:
    usual = max(changes(30, 45, 15))
    assert np.abs(moving_disc(29).astype(int) - moving_disc(30 + gap - 15)).mean() > 3.5 * usual, (
        "a cut would be visible"
    )
    assert max(changes(30, 30 + gap, 15)) < 3 * usual


@pytest.mark.parametrize("frames", range(6))
def test_short_lead_in_has_the_requested_length(frames: int) -> None:
    assert len(changes(30, 80, frames)) == frames + 1
