"""Profile of the mouth of one person, measured once over all frames of an avatar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmtalk.models.mesh.landmark_measures import Field, lip_drop, lip_gap, lip_thickness, mouth_width

CLOSED_GAP = 0.06
"""Gap of the inner lips of the mesh, in eye distances, below which the lips may touch."""
SPEECH_RANGE = 0.07
"""Minimum range of the gap, 10th to 95th percentile, at which a source counts as speaking and defines the scale."""
TYPICAL_RANGE, TYPICAL_LIPS = 0.132, 0.265
"""Range of the gap (10th to 95th percentile) and thickness of both closed lips: means over 57 speakers, in eye
distances."""
SCALE_BY_LIPS = 6.0
"""Change of the opening scale per eye distance of lip thickness. Both correlate by 0.4 to 0.6 among the 57 speakers.
The width of the mouth has no predictive value: correlation 0.1 and -0.5 in two corpora."""
MAX_RELAXED_WIDTH = 0.85
"""Width in eye distances that a mouth without a smile hardly exceeds: mean 0.79, standard deviation 0.04."""
SMILE_RELEASE = 0.5
"""Share of the width beyond MAX_RELAXED_WIDTH that an open mouth gives up. A rounded mouth gives up as much again."""
MAX_CHANGE_BY_LIPS, MAX_CHANGE_BY_SPEECH = 0.12, 0.25
"""Maximum difference of the opening scale from 1, derived from the lips or from speech."""


@dataclass(frozen=True, slots=True)
class MouthProfile:
    """Measures of the mouth of one person. Lengths are in eye distances."""

    rest_width: float
    """Distance of the mouth corners, median over the frames."""
    lip_drop: float
    """Distance from the base of the nose to the line between the closed lips."""
    opening_scale: float
    """Opening of this mouth relative to a typical mouth, 0.75 to 1.25."""
    speech_narrowing: float
    """Decrease of the width when the mouth opens, and again when the mouth rounds, because nobody holds a smile while
    speaking. 0 to 0.1."""
    own_teeth_weight: float
    """1 when the source always shows teeth, so that those teeth can be kept; 0 when not; blended in between."""


def mouth_profile(landmarks: Field) -> MouthProfile:
    """Measures the smoothed `landmarks` [n, 468, 2] of the usable rows."""
    gaps, width = lip_gap(landmarks), float(np.median(mouth_width(landmarks)))
    closed = landmarks[gaps <= np.percentile(gaps, 20)]
    return MouthProfile(
        rest_width=width,
        lip_drop=float(np.median(lip_drop(closed))),
        opening_scale=_opening_scale(gaps, float(np.median(lip_thickness(closed)))),
        speech_narrowing=SMILE_RELEASE * float(np.clip(1 - MAX_RELAXED_WIDTH / width, 0, 0.2)),
        own_teeth_weight=_own_teeth_weight(gaps),
    )


def _opening_scale(gaps: Field, thickness: float) -> float:
    """Returns the scale from the widest opening where the source speaks, else from the thickness of the closed lips."""
    low, high = np.percentile(gaps, (10, 95))
    if low > CLOSED_GAP:  # a held smile: neither measure is meaningful
        return 1.0
    if high - low >= SPEECH_RANGE:
        return float(np.clip((high - low) / TYPICAL_RANGE, 1 - MAX_CHANGE_BY_SPEECH, 1 + MAX_CHANGE_BY_SPEECH))
    return float(1 + np.clip(SCALE_BY_LIPS * (thickness - TYPICAL_LIPS), -MAX_CHANGE_BY_LIPS, MAX_CHANGE_BY_LIPS))


def _own_teeth_weight(gaps: Field) -> float:
    """Returns 1 for a held smile, 0 for lips that close in any frame or move much.

    Moving lips show and hide the teeth, which would flicker in the rendered mouth.
    """
    low, middle, high = np.percentile(gaps, (10, 50, 90))
    held = 2 - 3 * (high - low) / max(float(middle), 0.01)
    return float(np.clip((low - 0.05) / 0.03, 0, 1) * np.clip(held, 0, 1))
