"""Time ranges in which a clip's speaker says m, b or p, from an alignment file next to the clip.

CLIP.align      format of GRID: one word per line, `start end word`, 25,000 units a second, "sil" and "sp" for silence
CLIP.TextGrid   Praat's long text format, as the Montreal Forced Aligner writes: the tier whose name has "phone" in it
                (ARPAbet or IPA), else the tier whose name has "word" in it

Only the first letter of a word is used, which is correct for m, b and p in the tested languages. The letter m of GRID
("em") starts with open lips and is skipped.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

_GRID_UNITS = 25_000.0
_INITIAL_S = 0.08
"""Duration of the first consonant of a word, seconds."""
_TIER = re.compile(r'name = "([^"]*)"')
_INTERVAL = re.compile(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "([^"]*)"')

Span = tuple[float, float]
"""Start and end in seconds."""


def closures(clip: Path, frames: int, fps: int) -> npt.NDArray[np.bool_]:
    """Returns [frames], True where the lips should be closed; all False without an alignment file.

    Raises ValueError for an invalid alignment file.
    """
    closed = np.zeros(frames, bool)
    for start, end in _spans(clip):
        first = min(int(start * fps), frames - 1)
        closed[first : max(first + 1, int(end * fps))] = True
    return closed


def _spans(clip: Path) -> list[Span]:
    if (grid := clip.with_suffix(".align")).exists():
        words = [line.split() for line in grid.read_text().splitlines() if line.strip()]
        return _initials([(int(a) / _GRID_UNITS, int(b) / _GRID_UNITS, word) for a, b, word in words])
    if (praat := clip.with_suffix(".TextGrid")).exists():
        return _from_praat(praat)
    return []


def _from_praat(path: Path) -> list[Span]:
    parts = _TIER.split(path.read_text("utf-8"))
    tiers = dict(zip(parts[1::2], parts[2::2], strict=True))
    for kind in ("phone", "word"):
        for name, text in tiers.items():
            if kind in name.lower():
                intervals = [(float(a), float(b), label) for a, b, label in _INTERVAL.findall(text)]
                return _phones(intervals) if kind == "phone" else _initials(intervals)
    raise ValueError(f"{path} has no tier of phones or words; tiers: {', '.join(tiers) or 'none'}")


def _phones(intervals: list[tuple[float, float, str]]) -> list[Span]:
    return [(start, end) for start, end, label in intervals if label[:1].lower() in "mbp" and label]


def _initials(intervals: list[tuple[float, float, str]]) -> list[Span]:
    return [
        (start, min(end, start + _INITIAL_S))
        for start, end, word in intervals
        if word[:1].lower() in "mbp" and word and word.lower() != "m"
    ]
