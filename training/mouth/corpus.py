"""Load clips of real speech with tracked mouths as audio and mouth targets.

A corpus folder holds `clips.tsv` (clip, corpus, speaker, lag_25fps, ...), `landmark_ids.json` (the
MediaPipe face-mesh points that were kept) and per clip `<clip>.flac` (16 kHz mono) and `<clip>.npz`
(`lm` [T, points, 3] pixels at 25 fps, `ok` [T]), optionally `<clip>.align` (word times).
"""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from warmtalk.core.types import SPEECH_RATE_HZ

Floats = npt.NDArray[np.float32]

FPS = 25
FOLDS = 4
ALIGN_UNITS_PER_S = 25_000.0
TYPICAL_OPENING = 0.085
"""Root mean square of the opening to which every speaker is scaled. Audio determines the opening relative to the
speaker's habit; the habit itself is inaudible."""
TYPICAL_WIDTH = 0.06
"""Standard deviation of the width to which every speaker is scaled. Twice the tracked value, because the tracker
shrinks rounded lips towards the mean face."""

_LIP_PAIRS = ((13, 14), (82, 87), (312, 317))
_EYES = ((33, 133), (263, 362))
_CORNERS = (61, 291)
_REST_QUANTILE = 0.2
"""Quantile of the lip gaps in loud frames; about the gap that the tracker reports for the closed lips of m, b and p."""
_EARLY = {"lrwar_arabic": -1}
"""Offset in frames, added to the lag of clips.tsv. A network trained on the other corpora alone finds the mouths of
this corpus 20 to 80 ms before their audio, differently for each speaker and clip (align.py)."""
_LOUD_DB = -30.0
"""Threshold relative to the loudest frame of the clip. dB."""
_CLOSED = 0.15
"""Share of the typical opening; speaking lips below count as pressed."""


@dataclass(slots=True)
class Clip:
    """One clip. Row i of the targets belongs to the middle of video frame i."""

    name: str
    corpus: str
    speaker: str
    samples: Floats
    ok: npt.NDArray[np.bool_]
    opening: Floats
    """[T] inner-lip gap over eye distance, minus the speaker's rest gap, scaled to TYPICAL_OPENING."""
    width: Floats
    """[T] relative change of the mouth-corner distance, scaled to TYPICAL_WIDTH."""
    words: list[tuple[float, float, str]]
    """(start, end, word), in seconds; empty for corpora without word times."""
    late: int = 0
    """Row i of the targets is row i + late of the tracked points."""


def load_corpus(folder: Path) -> list[Clip]:
    """Returns all clips in the order of clips.tsv."""
    ids = {mesh: row for row, mesh in enumerate(json.loads((folder / "landmark_ids.json").read_text()))}
    with (folder / "clips.tsv").open(newline="") as table:
        clips = [_load(folder, line, ids) for line in csv.DictReader(table, delimiter="\t")]
    for speaker in by_speaker(clips).values():
        _scale(speaker)
    return clips


def by_speaker(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    grouped: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        grouped[clip.speaker].append(clip)
    return dict(grouped)


def fold_of(speakers: list[str]) -> dict[str, int]:
    """Returns the fold of each speaker, the same in every run."""
    dealt = sorted(set(speakers))
    random.Random(1).shuffle(dealt)
    return {speaker: k % FOLDS for k, speaker in enumerate(dealt)}


def _load(folder: Path, line: dict[str, str], ids: dict[int, int]) -> Clip:
    samples, _ = soundfile.read(folder / f"{line['clip']}.flac", dtype="float32")
    with np.load(folder / f"{line['clip']}.npz") as data:
        points, ok = data["lm"].astype(np.float64), data["ok"].astype(bool)
    opening, width = measure(points, ids)
    words = _words(folder / f"{line['clip']}.align")
    clip = Clip(line["clip"], line["corpus"], line["speaker"], samples, ok, opening, width, words)
    return moved(clip, int(line["lag_25fps"]) + _EARLY.get(clip.corpus, 0))


def measure(points: npt.NDArray[np.float64], ids: dict[int, int]) -> tuple[Floats, Floats]:
    """Returns ([T] gap of the inner lips, [T] distance of the mouth corners), both over the distance of the eyes.

    Eyes and corners are measured in three dimensions, so that a turned head does not narrow the mouth.
    """

    def between(a: int, b: int, axes: int = 3) -> npt.NDArray[np.float64]:
        lengths: npt.NDArray[np.float64] = np.linalg.norm((points[:, ids[a]] - points[:, ids[b]])[:, :axes], axis=1)
        return lengths

    left, right = (points[:, [ids[a], ids[b]]].mean(axis=1) for a, b in _EYES)
    eyes = np.linalg.norm(left - right, axis=1)
    gap = np.mean([between(a, b, axes=2) for a, b in _LIP_PAIRS], axis=0)
    return (gap / eyes).astype(np.float32), (between(*_CORNERS) / eyes).astype(np.float32)


def _words(path: Path) -> list[tuple[float, float, str]]:
    if not path.exists():
        return []
    lines = (line.split() for line in path.read_text().splitlines() if line.strip())
    return [(int(a) / ALIGN_UNITS_PER_S, int(b) / ALIGN_UNITS_PER_S, word) for a, b, word in lines]


def moved(clip: Clip, move: int) -> Clip:
    """Returns the clip with its mouth `move` frames earlier; frames without a mouth are marked not ok."""
    inside = np.arange(len(clip.opening)) + move
    known = (inside >= 0) & (inside < len(clip.opening))
    at = inside.clip(0, len(clip.opening) - 1)
    late = clip.late + move
    return replace(clip, opening=clip.opening[at], width=clip.width[at], ok=clip.ok[at] & known, late=late)


def _scale(clips: list[Clip]) -> None:
    """Subtracts the speaker's rest and scales to the typical speaker. `clips` are of one speaker and are changed."""
    ok = np.concatenate([clip.ok for clip in clips])
    loud = np.concatenate([_loud(clip) for clip in clips])[ok]
    gaps = np.concatenate([clip.opening for clip in clips])[ok]
    widths = np.concatenate([clip.width for clip in clips])[ok]
    rest_gap = np.quantile(gaps[loud], _REST_QUANTILE)
    rest_width = np.median(widths[gaps <= np.quantile(gaps, 0.4)])
    reach = np.sqrt(np.mean(np.maximum(gaps - rest_gap, 0.0) ** 2))
    spread = np.std(widths / rest_width)
    for clip in clips:
        clip.opening = (np.maximum(clip.opening - rest_gap, 0.0) * (TYPICAL_OPENING / reach)).astype(np.float32)
        clip.width = ((clip.width / rest_width - 1.0) * (TYPICAL_WIDTH / spread)).astype(np.float32)


def _loud(clip: Clip) -> npt.NDArray[np.bool_]:
    """Returns [T] True for frames that contain voice."""
    size = SPEECH_RATE_HZ // FPS
    padded = np.zeros(len(clip.opening) * size, np.float32)
    padded[: len(clip.samples)] = clip.samples[: len(padded)]
    power = np.square(padded.reshape(-1, size)).mean(axis=1)
    loud: npt.NDArray[np.bool_] = power > power.max() * 10 ** (_LOUD_DB / 10)
    return loud


def pressed(clip: Clip) -> Floats:
    """Returns [T] press: 1 where the lips are shut, falling to 0 at twice the threshold."""
    shut: Floats = np.clip(2.0 - clip.opening / (_CLOSED * TYPICAL_OPENING), 0.0, 1.0).astype(np.float32)
    return shut
