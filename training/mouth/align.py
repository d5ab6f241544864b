"""Finds the place of clips whose sound and picture were cut apart, and drops those that have none.

The broadcast clips come with sound and picture up to 160 ms apart, differently in every clip: left alone,
a network learns a blur. Expectation and maximisation with a linear map: fit it on all clips as they lie, move
every loose clip to where the map predicts it best, repeat. Clips of other corpora anchor the map in time.
"""

from __future__ import annotations

import logging

import numpy as np

from training.mouth.corpus import Clip, Floats, moved
from training.mouth.ridge import fit, frame_contexts, targets

logger = logging.getLogger(__name__)

LOOSE = frozenset({"lrwar_arabic"})
"""Corpora whose sound and picture were cut apart."""
MOST = 4
"""Video frames that a clip may be moved."""
ROUNDS = 4
LEAST_R = 0.25
"""Clips that correlate less at their best place show somebody else's mouth, or none."""
_WEIGHT = {"grid_s1": 0.15, "grid_multi": 3.0}
PER_FRAME = 0.02
"""Correlation that a move by one frame must gain."""


def aligned(clips: list[Clip]) -> list[Clip]:
    """The clips, the loose ones moved or left out."""
    contexts = [frame_contexts(clip) for clip in clips]
    moves = [0] * len(clips)
    heights = [1.0] * len(clips)
    for _ in range(ROUNDS):
        pairs = [
            (rows, _moved_targets(clip, move)[: len(rows)], _WEIGHT.get(clip.corpus, 1.0) if height > LEAST_R else 0.0)
            for rows, clip, move, height in zip(contexts, clips, moves, heights, strict=True)
        ]
        weights = fit([(rows[: len(wanted)], wanted, weight) for rows, wanted, weight in pairs])
        for k, (rows, clip) in enumerate(zip(contexts, clips, strict=True)):
            if clip.corpus in LOOSE:
                said = (np.c_[rows, np.ones(len(rows))] @ weights)[:, 0]
                moves[k], heights[k] = best_move(said, clip.opening)
    logger.info("moved by frames: %s", np.unique(moves, return_counts=True))
    placed = zip(clips, moves, heights, strict=True)
    return [moved(clip, move) for clip, move, height in placed if height > LEAST_R]


def best_move(said: Floats, real: Floats, most: int = MOST) -> tuple[int, float]:
    """Frames by which the real mouth comes late, and the correlation there."""
    found = []
    for move in range(-most, most + 1):
        late, early = max(move, 0), max(-move, 0)
        count = min(len(said) - early, len(real) - late)
        a, b = said[early : early + count], real[late : late + count]
        r = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else -1.0
        found.append((r - PER_FRAME * abs(move), move, r))
    _, move, r = max(found)
    return move, r


def _moved_targets(clip: Clip, move: int) -> Floats:
    return targets(moved(clip, move))
