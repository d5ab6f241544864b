"""Figures that compare a predicted mouth with the tracked one. All openings are in the corpus' scaled unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.mouth.align import MOST, PER_FRAME, best_move
from training.mouth.corpus import FPS, Clip, Floats, by_speaker
from warmtalk.core.mouth import OPENING, WIDTH

SHUT = 0.02
"""Opening that looks closed: 1.3 mm on an adult."""
OPEN = 0.06
NEAR = 2
"""Video frames by which a closure may be early or late: 80 ms."""
PART, APART = 5, 3
"""Frames of a stretch that is placed by the rest of its clip, and frames beside it that are no part of that rest."""
BILABIAL = frozenset({"bin", "blue", "by", "place", "please", "b", "p"})
"""Words that begin with shut lips."""

Track = Callable[[Clip], Floats]
"""A clip to its mouth rows at 100 per second."""
STEP = 100 // FPS


@dataclass(frozen=True, slots=True)
class Figures:
    """How well a mouth was predicted on some clips."""

    opening_r: float
    """Correlation over all frames."""
    opening_r_placed: float
    """The same when every clip may be moved to its best place: for corpora whose sound and picture were cut
    apart, at different places in every clip."""
    placed_by_chance: float
    """What that freedom alone gives: each clip's prediction placed against the next clip's mouth."""
    placed_by_width: float
    """Correlation of the openings when each clip is placed where the widths agree best: no such freedom."""
    placed_by_rest: float
    """Correlation of the openings when every fifth of a second is placed where the rest of its clip, openings and
    widths, agrees best: what a place that is the clip's own is worth, without the gain of choosing it to please."""
    opening_r_speech: float
    """Correlation from the first to the last opening of each clip: the silence around it, easy to get, left out."""
    opening_r_speakers: float
    """Mean over speakers of the correlation within the speaker."""
    width_r: float
    lag_ms: float
    """Positive: the predicted mouth is late."""
    speed: float
    """Mean absolute change per frame, against the real mouth's."""
    jitter: float
    """Mean absolute change of the change, against the real mouth's."""
    closures: float
    """Share of tracked closures between two openings that the prediction closes too."""
    chance: float
    """The same at random frames of speech."""
    bilabials: float
    """Share of word onsets with m, b, p that close; nan without word times."""
    silence: float
    """Mean opening in silence over mean opening in words; nan without word times."""


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
            [_placed(said, real) for (said, _), (_, real) in zip(opening, _next(opening), strict=True)]
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
    """The 100 Hz track at the middles of the video frames; its row h is the mouth at 10 h + 5 ms."""
    middles = (np.arange(len(clip.opening)) + 0.5) * STEP - 0.5
    hours = np.arange(len(rows))
    return np.stack([np.interp(middles, hours, column) for column in rows.T], axis=1).astype(np.float32)


def _r(pairs: list[tuple[Floats, Floats]]) -> float:
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(a, b)[0, 1])


def _placed(said: Floats, real: Floats) -> tuple[Floats, Floats]:
    return _moved_by(said, real, best_move(said, real)[0])


def _moved_by(said: Floats, real: Floats, move: int) -> tuple[Floats, Floats]:
    late, early = max(move, 0), max(-move, 0)
    count = min(len(said) - early, len(real) - late)
    return said[early : early + count], real[late : late + count]


def _placed_by_rest(opening: tuple[Floats, Floats], width: tuple[Floats, Floats]) -> list[tuple[Floats, Floats]]:
    """Stretches of the clip, each at the place that the frames beyond PART + APART say."""
    frames = len(opening[1])
    inside = np.clip(np.arange(frames) - np.arange(-MOST, MOST + 1)[:, None], 0, len(opening[0]) - 1)
    said = np.stack([opening[0][inside], width[0][inside]])
    real = np.stack([opening[1], width[1]])
    stretches = []
    for start in range(0, frames, PART):
        rest = np.ones(frames, bool)
        rest[max(0, start - APART) : start + PART + APART] = False
        if rest.any():
            best = int(np.argmax(_agreement(said[..., rest], real[:, rest])))
            part = slice(start, start + PART)
            stretches.append((said[0, best, part], real[0, part]))
    return stretches


def _agreement(said: Floats, real: Floats) -> Floats:
    """[places] correlation, opening and width together; nearer places win a tie."""
    said, real = said - said.mean(-1, keepdims=True), real - real.mean(-1, keepdims=True)
    size = np.linalg.norm(said, axis=-1) * np.linalg.norm(real, axis=-1)[:, None]
    r = (said * real[:, None]).sum(-1) / np.maximum(size, 1e-9)
    agreement: Floats = r.sum(0) - 2 * PER_FRAME * np.abs(np.arange(-MOST, MOST + 1))
    return agreement


def _next(pairs: list[tuple[Floats, Floats]]) -> list[tuple[Floats, Floats]]:
    return pairs[1:] + pairs[:1]


def _speaking(said: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Frames between the first and the last at which the prediction opens."""
    open_at = np.flatnonzero(said > SHUT)
    inside = slice(open_at[0], open_at[-1] + 1) if len(open_at) else slice(0, 0)
    return said[inside], real[inside]


def _lag_ms(tracks: list[Floats], clips: list[Clip]) -> float:
    shifts = np.arange(-20, 21)
    curve = [_r([_moved(rows, clip, int(s)) for rows, clip in zip(tracks, clips, strict=True)]) for s in shifts]
    best = int(np.argmax(curve[1:-1])) + 1
    before, at, after = curve[best - 1 : best + 2]
    return float(10 * (shifts[best] + 0.5 * (before - after) / (before - 2 * at + after)))


def _moved(rows: Floats, clip: Clip, shift: int) -> tuple[Floats, Floats]:
    """What the track says `shift` rows later than it should, and what the real mouth did."""
    middles = (np.arange(len(clip.opening)) + 0.5) * STEP - 0.5 + shift
    inside = (middles >= 0) & (middles <= len(rows) - 1)
    return np.interp(middles[inside], np.arange(len(rows)), rows[:, OPENING]), clip.opening[inside]


def _motion(pairs: list[tuple[Floats, Floats]], order: int) -> float:
    said, real = (np.concatenate([np.abs(np.diff(x, order)) for x in side]) for side in zip(*pairs, strict=True))
    return float(said.mean() / real.mean())


def _closures(pairs: list[tuple[Floats, Floats]]) -> tuple[float, float]:
    hits, chances = [], []
    for said, real in pairs:
        lowest = _lowest(said)
        for k in range(5, len(real) - 5):
            if max(real[k - 5 : k]) > OPEN and max(real[k + 1 : k + 6]) > OPEN:
                chances.append(lowest[k] <= SHUT)
                if real[k] <= SHUT and real[k] == min(real[k - 2 : k + 3]):
                    hits.append(lowest[k] <= SHUT)
    return float(np.mean(hits)), float(np.mean(chances))


def _lowest(said: Floats) -> Floats:
    padded = np.pad(said, NEAR, mode="edge")
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
    """A markdown table, one line per figure and one column per name."""
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for key in Figures.__dataclass_fields__:
        figures_of_key = (f"{getattr(row, key):.2f}" for row in rows.values())
        lines += [f"| {key} | {' | '.join(figures_of_key)} |"]
    return "\n".join(lines)
