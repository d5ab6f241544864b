"""Estimate the audio/video offset of loosely cut clips and drop clips without a plausible offset.

Audio and video of the broadcast clips are up to 160 ms apart, differently in every clip; a network trained on such
clips learns a blur. The method is expectation-maximisation with a linear map: fit the map on all clips, move every
loose clip to the offset that the map predicts best, repeat. Clips of other corpora anchor the map in time.
"""

from __future__ import annotations

import logging

import numpy as np

from training.mouth.corpus import Clip, Floats, moved
from training.mouth.ridge import fit, frame_contexts, targets

logger = logging.getLogger(__name__)

LOOSE = frozenset({"lrwar_arabic"})
"""Corpora whose audio and video are offset."""
MAX_OFFSET = 4
"""Maximum offset of a clip. Video frames."""
ROUNDS = 4
MIN_R = 0.25
"""Minimum correlation at the best offset. A clip below shows another person's mouth, or no mouth."""
_WEIGHT = {"grid_s1": 0.15, "grid_multi": 3.0}
PER_FRAME = 0.02
"""Correlation that each frame of offset must gain."""


def aligned(clips: list[Clip]) -> list[Clip]:
    """Returns the clips; loose clips are moved or left out."""
    contexts = [frame_contexts(clip) for clip in clips]
    moves = [0] * len(clips)
    correlations = [1.0] * len(clips)
    for _ in range(ROUNDS):
        pairs = [
            (
                rows,
                _moved_targets(clip, move)[: len(rows)],
                _WEIGHT.get(clip.corpus, 1.0) if correlation > MIN_R else 0.0,
            )
            for rows, clip, move, correlation in zip(contexts, clips, moves, correlations, strict=True)
        ]
        weights = fit([(rows[: len(target_rows)], target_rows, weight) for rows, target_rows, weight in pairs])
        for k, (rows, clip) in enumerate(zip(contexts, clips, strict=True)):
            if clip.corpus in LOOSE:
                predicted = (np.c_[rows, np.ones(len(rows))] @ weights)[:, 0]
                moves[k], correlations[k] = best_move(predicted, clip.opening)
    logger.info("moved by frames: %s", np.unique(moves, return_counts=True))
    aligned_clips = zip(clips, moves, correlations, strict=True)
    return [moved(clip, move) for clip, move, correlation in aligned_clips if correlation > MIN_R]


def best_move(predicted: Floats, real: Floats, max_offset: int = MAX_OFFSET) -> tuple[int, float]:
    """Returns (offset in frames by which the tracked mouth is late, correlation at this offset)."""
    found = []
    for move in range(-max_offset, max_offset + 1):
        late, early = max(move, 0), max(-move, 0)
        count = min(len(predicted) - early, len(real) - late)
        a, b = predicted[early : early + count], real[late : late + count]
        r = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else -1.0
        found.append((r - PER_FRAME * abs(move), move, r))
    _, move, r = max(found)
    return move, r


def _moved_targets(clip: Clip, move: int) -> Floats:
    return targets(moved(clip, move))


def _weight(clip: Clip, correlation: float) -> float:
    """Returns the weight of a clip in the fit; 0 for a clip without a plausible offset."""
    return _WEIGHT.get(clip.corpus, 1.0) if correlation > MIN_R else 0.0
