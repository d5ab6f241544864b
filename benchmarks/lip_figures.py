"""Figures that compare a rendered mouth with the real mouth, computed from the landmarks of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.card import Rows
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
"""(real, rendered) values over time, one pair per clip."""

FPS = 25
CLOSED_OPENING = 0.025
"""Opening in eye distances, above the most closed frames of the clip, that still looks closed: 1.6 mm on an adult."""
CLOSURE_TOLERANCE = 2
"""Frames by which a closure may be early or late: 80 ms."""
_LIPS = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
_ANCHORS = (33, 133, 362, 263, 168, 6)
"""Eye corners and the bridge of the nose: points that do not move with speech."""
_MAX_LAG = 5


@dataclass(frozen=True, slots=True)
class LipTrack:
    """Landmarks of one clip, real and rendered, frame by frame. Frames without a face in either are left out."""

    name: str
    real: Array
    """[n, 468, 2] pixels."""
    rendered: Array
    """[n, 468, 2] pixels."""
    speech: npt.NDArray[np.bool_]
    """[n] True where the audio contains speech."""
    closures: npt.NDArray[np.bool_]
    """[n] True where an m, b or p begins or holds; all False without an alignment."""


def figures(tracks: list[LipTrack]) -> Rows:
    """Returns figures pooled over the clips. The mean of each clip is subtracted, because resting lips differ."""
    gaps: Pairs = [(lip_gap(track.real), lip_gap(track.rendered)) for track in tracks]
    widths: Pairs = [(mouth_width(track.real), mouth_width(track.rendered)) for track in tracks]
    lags = [_lag_ms(real, rendered) for real, rendered in gaps]
    openings = [
        (_mean_opening(rendered, track.speech), _mean_opening(rendered, ~track.speech))
        for track, (_, rendered) in zip(tracks, gaps, strict=True)
    ]
    ratios = [silence / speech for speech, silence in openings if speech > 0 and not np.isnan(silence)]
    return [
        ("r_open", _pooled_r(gaps), "correlation of the opening, pooled"),
        ("r_open_speakers", float(np.mean([_pooled_r([pair]) for pair in gaps])), "the same, mean over clips"),
        ("r_width", _pooled_r(widths), "correlation of the width, pooled"),
        ("size_ratio", _ratio(gaps, _spread), "standard deviation of the opening, rendered / real"),
        (
            "silence_ratio",
            float(np.mean(ratios)) if ratios else float("nan"),
            "rendered opening in silence / in speech",
        ),
        ("closure_rate", _closure_rate(tracks, 1), "share of m, b, p with closed rendered lips"),
        ("closure_rate_real", _closure_rate(tracks, 0), "the same for the real mouth: limit of this measurement"),
        ("closure_chance", _closure_rate(tracks, 1, everywhere=True), "the same for any frame of speech"),
        ("lmd", float(np.mean([_lmd(track) for track in tracks])), "mean distance of lip points, in eye distances"),
        ("jitter_ratio", _ratio(gaps, _jitter), "mean second difference of the opening, rendered / real"),
        ("lag_ms", float(np.median(lags)), "median lag, positive when the rendered mouth is late"),
    ]


def _pooled_r(pairs: Pairs) -> float:
    reals = np.concatenate([real - real.mean() for real, _ in pairs])
    rendereds = np.concatenate([rendered - rendered.mean() for _, rendered in pairs])
    return float(np.corrcoef(reals, rendereds)[0, 1])


def _lag_ms(real: Array, rendered: Array) -> float:
    """Returns the lag with the highest correlation, interpolated between frames by a parabola."""
    lags = range(-_MAX_LAG, _MAX_LAG + 1)
    n = len(real)
    r = [np.corrcoef(real[max(0, -k) : n - max(0, k)], rendered[max(0, k) : n - max(0, -k)])[0, 1] for k in lags]
    best = int(np.clip(np.argmax(r), 1, len(r) - 2))
    low, top, high = r[best - 1 : best + 2]
    curvature = low - 2 * top + high
    fraction = float(np.clip(0.5 * (low - high) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0
    return (best - _MAX_LAG + fraction) * 1000 / FPS


def _mean_opening(gap: Array, frames: npt.NDArray[np.bool_]) -> float:
    """Returns the mean opening above the most closed frames; NaN without frames."""
    return float(np.mean(gap[frames]) - np.percentile(gap, 5)) if frames.any() else float("nan")


def _ratio(pairs: Pairs, measure: Callable[[Array], float]) -> float:
    return float(np.mean([measure(rendered) / measure(real) for real, rendered in pairs]))


def _spread(gap: Array) -> float:
    return float(np.std(gap))


def _jitter(gap: Array) -> float:
    return float(np.mean(np.abs(np.diff(gap, 2))))


def _closure_rate(tracks: list[LipTrack], side: int, *, everywhere: bool = False) -> float:
    """Returns the share of closures with closed lips; `side` 0 is the real mouth, 1 the rendered mouth.

    Lips count as closed within CLOSURE_TOLERANCE frames. `everywhere` uses all frames of speech instead of the
    closures. NaN when no clip has an alignment.
    """
    closed: list[bool] = []
    for track in tracks:
        gap = lip_gap((track.real, track.rendered)[side])
        shut = gap <= np.percentile(gap, 5) + CLOSED_OPENING
        near = np.convolve(shut, np.ones(2 * CLOSURE_TOLERANCE + 1), "same") > 0
        if track.closures.any():
            closed += near[track.speech if everywhere else track.closures].tolist()
    return float(np.mean(closed)) if closed else float("nan")


def _lmd(track: LipTrack) -> float:
    """Returns the mean distance of lip points after aligning both faces by the points that do not move with speech."""
    distances = []
    for real, rendered in zip(track.real, track.rendered, strict=True):
        matrix, _ = cv2.estimateAffinePartial2D(rendered[list(_ANCHORS)], real[list(_ANCHORS)], method=cv2.LMEDS)
        if matrix is not None:
            aligned = rendered[_LIPS] @ matrix[:, :2].T + matrix[:, 2]
            distances.append(np.linalg.norm(aligned - real[_LIPS], axis=1).mean() / float(eye_distance(real[None])[0]))
    return float(np.mean(distances))
