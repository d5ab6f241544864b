"""Fit the linear map of the signal-processing mouth: log-mel context to opening and width.

python -m training.mouth.ridge CORPUS_FOLDER MAP.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.mouth.corpus import FPS, Clip, Floats, load_corpus
from training.mouth.linear import contexts
from warmtalk.models.mouth.audio_features import HOP

CLIP_WEIGHT = {"grid_s1": 0.15, "grid_multi": 2.0, "lrwar_arabic": 0.1}
"""Weights of the corpora. Many clips of one speaker transfer worse than few clips of many speakers; the broadcast clips
pull a linear map away from clean speech."""
PENALTY = 100.0


def frame_contexts(clip: Clip) -> Floats:
    """Returns [T, context] of the rows next to the middle of every video frame."""
    rows = contexts(clip.samples)
    middles = ((np.arange(len(clip.opening)) + 0.5) * 16_000 / FPS / HOP).astype(int)
    found: Floats = rows[middles[middles < len(rows)]]
    return found


def targets(clip: Clip) -> Floats:
    return np.stack([clip.opening, clip.width], axis=1)


def fit(pairs: list[tuple[Floats, Floats, float]]) -> npt.NDArray[np.float64]:
    """Fits weighted (contexts, targets, weight) triples. Returns [context + 1, 2] weights; the last row is the bias."""
    size = pairs[0][0].shape[1] + 1
    square, product = PENALTY * np.eye(size), np.zeros((size, 2))
    square[-1, -1] = 0.0
    for rows, target_rows, weight in pairs:
        design = np.c_[rows, np.ones(len(rows))].astype(np.float64)
        square += weight * design.T @ design
        product += weight * design.T @ target_rows[: len(rows)]
    return np.asarray(np.linalg.solve(square, product), np.float64)


def fit_clips(clips: list[Clip]) -> npt.NDArray[np.float64]:
    return fit([(frame_contexts(c), targets(c), CLIP_WEIGHT.get(c.corpus, 1.0)) for c in clips])


def save(weights: npt.NDArray[np.float64], path: Path) -> None:
    narrow = weights.astype(np.float32)
    np.savez(path, weight=narrow[:-1], bias=narrow[-1])


if __name__ == "__main__":
    save(fit_clips(load_corpus(Path(sys.argv[1]))), Path(sys.argv[2]))
