"""What is a person's own about a mouth, read once from all frames of an avatar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmtalk.models.mesh.shape import Field, lip_drop, lip_gap, lip_thickness, mouth_width

CLOSED_GAP = 0.06
"""Gap of the mesh's inner lips, in eye distances, below which they may touch."""
SPEAKS = 0.07
"""Range of the gap, 10th to 95th percentile, from which on a source speaks and shows its own reach."""
TYPICAL_REACH, TYPICAL_LIPS = 0.132, 0.265
"""That range, and the thickness of both closed lips: means over 57 speakers, in eye distances."""
REACH_BY_LIPS = 6.0
"""Change of the reach per eye distance of lip thickness; among those speakers they correlate by 0.4 to 0.6. The width
of the mouth says nothing: 0.1 and -0.5 in two corpora."""
WIDEST_RELAXED = 0.85
"""Width in eye distances that a mouth which does not smile hardly exceeds: mean 0.79, standard deviation 0.04."""
SMILE_LOST = 0.5
"""Of the width beyond, what an open mouth gives up, and again as much a rounded one."""
MOST_BY_LIPS, MOST_BY_SPEECH = 0.12, 0.25
"""How far from 1 the reach may be."""


@dataclass(frozen=True, slots=True)
class MouthProfile:
    """Lengths in eye distances."""

    rest_width: float
    """Distance of the mouth corners, as it mostly is."""
    lip_drop: float
    """Way from the base of the nose to the line between the closed lips."""
    reach: float
    """How far this mouth opens against a typical one, 0.75 to 1.25."""
    narrows: float
    """How much narrower than at rest the mouth gets as it opens, and again as it rounds: a smile is not held while it
    speaks. 0..0.1."""
    own_teeth: float
    """0..1: whether the source always shows its teeth, so that they can be kept."""


def mouth_profile(landmarks: Field) -> MouthProfile:
    """`landmarks` [n, 468, 2] of the usable rows, steadied."""
    gaps, width = lip_gap(landmarks), float(np.median(mouth_width(landmarks)))
    closed = landmarks[gaps <= np.percentile(gaps, 20)]
    return MouthProfile(
        rest_width=width,
        lip_drop=float(np.median(lip_drop(closed))),
        reach=_reach(gaps, float(np.median(lip_thickness(closed)))),
        narrows=SMILE_LOST * float(np.clip(1 - WIDEST_RELAXED / width, 0, 0.2)),
        own_teeth=_own_teeth(gaps),
    )


def _reach(gaps: Field, lips: float) -> float:
    """From the widest opening where the source speaks, else from the size of its lips where they are closed."""
    low, high = np.percentile(gaps, (10, 95))
    if low > CLOSED_GAP:  # a held smile: neither says anything
        return 1.0
    if high - low >= SPEAKS:
        return float(np.clip((high - low) / TYPICAL_REACH, 1 - MOST_BY_SPEECH, 1 + MOST_BY_SPEECH))
    return float(1 + np.clip(REACH_BY_LIPS * (lips - TYPICAL_LIPS), -MOST_BY_LIPS, MOST_BY_LIPS))


def _own_teeth(gaps: Field) -> float:
    """0..1: 1 for a held smile; 0 where the lips are ever closed, or move so much that what shows between them comes
    and goes: that would flicker through the drawn mouth."""
    low, middle, high = np.percentile(gaps, (10, 50, 90))
    held = 2 - 3 * (high - low) / max(float(middle), 0.01)
    return float(np.clip((low - 0.05) / 0.03, 0, 1) * np.clip(held, 0, 1))
