"""Figures of a drawn mouth against the real one, from the landmarks of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.models.mesh.landmark_measures import (
    INNER_LOWER,
    INNER_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
    eye_distance,
    lip_gap,
    mouth_width,
)

Array = npt.NDArray[np.float32]
Pairs = list[tuple[Array, Array]]
"""Real and ours, one pair per clip."""

FPS = 25
SHUT = 0.025
"""Opening above the clip's most closed frames, in eye distances, that looks closed: 1.6 mm on an adult."""
NEAR = 2
"""Frames by which a closure may be early or late: 80 ms."""
_LIPS = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
_ANCHORS = (33, 133, 362, 263, 168, 6)
"""Eye corners and the bridge of the nose: what does not move with speech."""
_MOST_LAG = 5


@dataclass(frozen=True, slots=True)
class LipTrack:
    """One clip, real and ours, frame by frame; frames in which either has no face are left out."""

    name: str
    real: Array
    """[n, 468, 2] pixels."""
    ours: Array
    loud: npt.NDArray[np.bool_]
    """[n] where the sound speaks."""
    closures: npt.NDArray[np.bool_]
    """[n] where an m, b or p begins or holds; nowhere for clips without an alignment."""


def figures(tracks: list[LipTrack]) -> list[tuple[str, float, str]]:
    """Pooled over the clips; each clip's own mean is taken away first, since resting lips differ between people."""
    gaps: Pairs = [(lip_gap(track.real), lip_gap(track.ours)) for track in tracks]
    widths: Pairs = [(mouth_width(track.real), mouth_width(track.ours)) for track in tracks]
    lags = [_lag_ms(real, ours) for real, ours in gaps]
    opening = [
        (_level(ours, track.loud), _level(ours, ~track.loud)) for track, (_, ours) in zip(tracks, gaps, strict=True)
    ]
    silent = [quiet / speaking for speaking, quiet in opening if speaking > 0 and not np.isnan(quiet)]
    return [
        ("r_open", _pooled_r(gaps), "correlation of the opening, pooled"),
        ("r_open_speakers", float(np.mean([_pooled_r([pair]) for pair in gaps])), "the same, mean over clips"),
        ("r_width", _pooled_r(widths), "correlation of the width, pooled"),
        ("size_ratio", _ratio(gaps, _spread), "spread of our opening over the real one"),
        (
            "silence_ratio",
            float(np.mean(silent)) if silent else float("nan"),
            "our opening in silence over that in speech",
        ),
        ("closure_rate", _closures(tracks, 1), "share of m, b, p on which our lips shut"),
        ("closure_rate_real", _closures(tracks, 0), "the same of the real mouth: what this meter can see"),
        ("closure_chance", _closures(tracks, 1, everywhere=True), "the same at any frame of speech"),
        ("lmd", float(np.mean([_lmd(track) for track in tracks])), "mean distance of lip points, in eye distances"),
        ("jitter_ratio", _ratio(gaps, _shake), "change of speed of our opening over the real one's"),
        ("lag_ms", float(np.median(lags)), "median lag, positive when ours is late"),
    ]


def _pooled_r(pairs: Pairs) -> float:
    real = np.concatenate([real - real.mean() for real, _ in pairs])
    ours = np.concatenate([ours - ours.mean() for _, ours in pairs])
    return float(np.corrcoef(real, ours)[0, 1])


def _lag_ms(real: Array, ours: Array) -> float:
    """Where the correlation is highest, between frames by a parabola."""
    lags = range(-_MOST_LAG, _MOST_LAG + 1)
    n = len(real)
    r = [np.corrcoef(real[max(0, -k) : n - max(0, k)], ours[max(0, k) : n - max(0, -k)])[0, 1] for k in lags]
    best = int(np.clip(np.argmax(r), 1, len(r) - 2))
    low, top, high = r[best - 1 : best + 2]
    bend = low - 2 * top + high
    between = float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0
    return (best - _MOST_LAG + between) * 1000 / FPS


def _level(gap: Array, where: npt.NDArray[np.bool_]) -> float:
    """Mean opening above the most closed frames."""
    return float(np.mean(gap[where]) - np.percentile(gap, 5)) if where.any() else float("nan")


def _ratio(pairs: Pairs, measure: Callable[[Array], float]) -> float:
    return float(np.mean([measure(ours) / measure(real) for real, ours in pairs]))


def _spread(gap: Array) -> float:
    return float(np.std(gap))


def _shake(gap: Array) -> float:
    return float(np.mean(np.abs(np.diff(gap, 2))))


def _closures(tracks: list[LipTrack], side: int, *, everywhere: bool = False) -> float:
    """`side` 0 is the real mouth, 1 ours. Lips count as shut when they are within NEAR frames; nan when no clip has an
    alignment, or at any frame of speech with `everywhere`."""
    shut: list[bool] = []
    for track in tracks:
        gap = lip_gap((track.real, track.ours)[side])
        closed = gap <= np.percentile(gap, 5) + SHUT
        near = np.convolve(closed, np.ones(2 * NEAR + 1), "same") > 0
        if track.closures.any():
            shut += near[track.loud if everywhere else track.closures].tolist()
    return float(np.mean(shut)) if shut else float("nan")


def _lmd(track: LipTrack) -> float:
    """Lip points, both faces laid on each other by the points that do not speak."""
    distances = []
    for real, ours in zip(track.real, track.ours, strict=True):
        move, _ = cv2.estimateAffinePartial2D(ours[list(_ANCHORS)], real[list(_ANCHORS)], method=cv2.LMEDS)
        if move is not None:
            laid = ours[_LIPS] @ move[:, :2].T + move[:, 2]
            distances.append(np.linalg.norm(laid - real[_LIPS], axis=1).mean() / float(eye_distance(real[None])[0]))
    return float(np.mean(distances))
