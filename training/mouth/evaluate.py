"""Compare predicted mouths with tracked ones. All openings are in the corpus' scaled unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.mouth.align import MAX_OFFSET, PER_FRAME, best_move
from training.mouth.corpus import FPS, Clip, Floats, by_speaker
from warmtalk.core.mouth import OPENING, WIDTH

SHUT = 0.02
"""Opening that looks closed; 1.3 mm on an adult."""
OPEN = 0.06
NEAR = 2
"""Tolerance of a closure in time. Video frames (80 ms)."""
PART, APART = 5, 3
"""Frames of a stretch that is aligned by the rest of its clip, and frames beside the stretch excluded from the rest."""
BILABIAL = frozenset({"bin", "blue", "by", "place", "please", "b", "p"})
"""Words and phones that begin with closed lips."""

Track = Callable[[Clip], Floats]
"""Function from a clip to mouth rows at 100 Hz, [rows, 4]."""
STEP = 100 // FPS


@dataclass(frozen=True, slots=True)
class Figures:
    """Quality of the predictions on a set of clips."""

    opening_r: float
    """Correlation over all frames."""
    opening_r_placed: float
    """Correlation with every clip moved to its best offset, for corpora whose audio and video are offset
    differently in every clip."""
    placed_by_chance: float
    """Chance level of `opening_r_placed`: each clip's prediction, aligned with the next clip's mouth."""
    placed_by_width: float
    """Correlation of the openings with each clip at the offset of best agreement of the widths; no chance gain."""
    placed_by_rest: float
    """Correlation of the openings with each fifth of a second at the offset where the rest of its clip (openings and
    widths) agrees best: the worth of a per-clip offset without the gain of selection."""
    opening_r_speech: float
    """Correlation from the first to the last opening of each clip, without the easy silence around speech."""
    opening_r_speakers: float
    """Mean over speakers of the correlation within the speaker."""
    width_r: float
    lag_ms: float
    """Lag of the predicted mouth; positive is late. Milliseconds."""
    speed: float
    """Mean absolute change per frame, relative to the tracked mouth."""
    jitter: float
    """Mean absolute second difference, relative to the tracked mouth."""
    closures: float
    """Share of tracked closures between two openings that the prediction closes."""
    chance: float
    """Share of random speech frames that the prediction closes: the chance level of `closures`."""
    bilabials: float
    """Share of word onsets with m, b, p that close; NaN without word times."""
    silence: float
    """Mean opening in silence over mean opening in words; NaN without word times."""


def figures(clips: list[Clip], track: Track) -> Figures:
    tracks = [track(clip) for clip in clips]
    shown = [at_frames(rows, clip) for rows, clip in zip(tracks, clips, strict=True)]
    opening = [(rows[:, OPENING], clip.opening) for rows, clip in zip(shown, clips, strict=True)]
    width = [(rows[:, WIDTH], clip.width) for rows, clip in zip(shown, clips, strict=True)]
    by_name = {clip.name: pair for clip, pair in zip(clips, opening, strict=True)}
    speakers = [[by_name[clip.name] for clip in group] for group in by_speaker(clips).values()]
    hits, chance = _closures(opening)
    return Figures(
        opening_r=_r(opening),
        opening_r_placed=_r([_placed(*pair) for pair in opening]),
        placed_by_chance=_r(
            [_placed(predicted, real) for (predicted, _), (_, real) in zip(opening, _next(opening), strict=True)]
        ),
        placed_by_width=_r(
            [_moved_by(*pair, best_move(*other)[0]) for pair, other in zip(opening, width, strict=True)]
        ),
        placed_by_rest=_r([pair for both in zip(opening, width, strict=True) for pair in _placed_by_rest(*both)]),
        opening_r_speech=_r([_speaking(*pair) for pair in opening]),
        opening_r_speakers=float(np.nanmean([_r(pairs) for pairs in speakers])),
        width_r=_r(width),
        lag_ms=_lag_ms(tracks, clips),
        speed=_motion(opening, 1),
        jitter=_motion(opening, 2),
        closures=hits,
        chance=chance,
        bilabials=_bilabials(shown, clips),
        silence=_silence(shown, clips),
    )


def at_frames(rows: Floats, clip: Clip) -> Floats:
    """Interpolates the 100 Hz rows at the middles of the video frames. Row h is the mouth at 10 h + 5 ms."""
    middles = (np.arange(len(clip.opening)) + 0.5) * STEP - 0.5
    row_indices = np.arange(len(rows))
    return np.stack([np.interp(middles, row_indices, column) for column in rows.T], axis=1).astype(np.float32)


def _r(pairs: list[tuple[Floats, Floats]]) -> float:
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(a, b)[0, 1])


def _placed(predicted: Floats, real: Floats) -> tuple[Floats, Floats]:
    return _moved_by(predicted, real, best_move(predicted, real)[0])


def _moved_by(predicted: Floats, real: Floats, move: int) -> tuple[Floats, Floats]:
    late, early = max(move, 0), max(-move, 0)
    count = min(len(predicted) - early, len(real) - late)
    return predicted[early : early + count], real[late : late + count]


def _placed_by_rest(opening: tuple[Floats, Floats], width: tuple[Floats, Floats]) -> list[tuple[Floats, Floats]]:
    """Returns stretches of the clip, each at the offset given by the frames beyond PART + APART."""
    frames = len(opening[1])
    inside = np.clip(np.arange(frames) - np.arange(-MAX_OFFSET, MAX_OFFSET + 1)[:, None], 0, len(opening[0]) - 1)
    predicted = np.stack([opening[0][inside], width[0][inside]])
    real = np.stack([opening[1], width[1]])
    stretches = []
    for start in range(0, frames, PART):
        rest = np.ones(frames, bool)
        rest[max(0, start - APART) : start + PART + APART] = False
        if rest.any():
            best = int(np.argmax(_agreement(predicted[..., rest], real[:, rest])))
            part = slice(start, start + PART)
            stretches.append((predicted[0, best, part], real[0, part]))
    return stretches


def _agreement(predicted: Floats, real: Floats) -> Floats:
    """Returns [offsets] the summed correlation of opening and width; smaller offsets win a tie."""
    predicted, real = predicted - predicted.mean(-1, keepdims=True), real - real.mean(-1, keepdims=True)
    size = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(real, axis=-1)[:, None]
    r = (predicted * real[:, None]).sum(-1) / np.maximum(size, 1e-9)
    agreement: Floats = r.sum(0) - 2 * PER_FRAME * np.abs(np.arange(-MAX_OFFSET, MAX_OFFSET + 1))
    return agreement


def _next(pairs: list[tuple[Floats, Floats]]) -> list[tuple[Floats, Floats]]:
    return pairs[1:] + pairs[:1]


def _speaking(predicted: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Returns the frames from the first to the last predicted opening."""
    open_at = np.flatnonzero(predicted > SHUT)
    inside = slice(open_at[0], open_at[-1] + 1) if len(open_at) else slice(0, 0)
    return predicted[inside], real[inside]


def _lag_ms(tracks: list[Floats], clips: list[Clip]) -> float:
    shifts = np.arange(-20, 21)
    curve = [_r([_moved(rows, clip, int(s)) for rows, clip in zip(tracks, clips, strict=True)]) for s in shifts]
    best = int(np.argmax(curve[1:-1])) + 1
    before, at, after = curve[best - 1 : best + 2]
    return float(10 * (shifts[best] + 0.5 * (before - after) / (before - 2 * at + after)))


def _moved(rows: Floats, clip: Clip, shift: int) -> tuple[Floats, Floats]:
    """Returns (prediction `shift` rows late, tracked opening)."""
    middles = (np.arange(len(clip.opening)) + 0.5) * STEP - 0.5 + shift
    inside = (middles >= 0) & (middles <= len(rows) - 1)
    return np.interp(middles[inside], np.arange(len(rows)), rows[:, OPENING]), clip.opening[inside]


def _motion(pairs: list[tuple[Floats, Floats]], order: int) -> float:
    predicted, real = (np.concatenate([np.abs(np.diff(x, order)) for x in side]) for side in zip(*pairs, strict=True))
    return float(predicted.mean() / real.mean())


def _closures(pairs: list[tuple[Floats, Floats]]) -> tuple[float, float]:
    hits, chances = [], []
    for predicted, real in pairs:
        lowest = _lowest(predicted)
        for k in range(5, len(real) - 5):
            if max(real[k - 5 : k]) > OPEN and max(real[k + 1 : k + 6]) > OPEN:
                chances.append(lowest[k] <= SHUT)
                if real[k] <= SHUT and real[k] == min(real[k - 2 : k + 3]):
                    hits.append(lowest[k] <= SHUT)
    return float(np.mean(hits)), float(np.mean(chances))


def _lowest(predicted: Floats) -> Floats:
    padded = np.pad(predicted, NEAR, mode="edge")
    lowest: Floats = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEAR + 1).min(axis=1)
    return lowest


def _bilabials(shown: list[Floats], clips: list[Clip]) -> float:
    shut = []
    for rows, clip in zip(shown, clips, strict=True):
        lowest = _lowest(rows[:, OPENING])
        onsets = [int(start * FPS) for start, _, word in clip.words if word in BILABIAL]
        shut += [lowest[min(k, len(lowest) - 1)] <= SHUT for k in onsets]
    return float(np.mean(shut)) if shut else float("nan")


def _silence(shown: list[Floats], clips: list[Clip]) -> float:
    silent, spoken = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for rows, clip in zip(shown, clips, strict=True):
        for start, end, word in clip.words:
            part = rows[round(start * FPS) : round(end * FPS), OPENING]
            (silent if word in ("sil", "sp") else spoken).append(part)
    quiet, loud = np.concatenate(silent), np.concatenate(spoken)
    return float(quiet.mean() / loud.mean()) if len(loud) else float("nan")


def table(rows: dict[str, Figures]) -> str:
    """Returns a Markdown table with a line for each figure and a column for each name."""
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for key in Figures.__dataclass_fields__:
        figures_of_key = (f"{getattr(row, key):.2f}" for row in rows.values())
        lines += [f"| {key} | {' | '.join(figures_of_key)} |"]
    return "\n".join(lines)
