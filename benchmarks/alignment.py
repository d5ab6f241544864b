"""Where a clip says m, b and p, from an alignment beside it.

CLIP.align      GRID's: a line a word, `start end word`, 25,000 units a second, "sil" and "sp" for silence
CLIP.TextGrid   Praat's long text format, as the Montreal Forced Aligner writes: the tier whose name has "phone" in it
                (ARPAbet or IPA), else the tier whose name has "word" in it

Of words only the first letter is used, which is right for m, b and p in the languages this was used with; GRID's
letter m ("em") begins with open lips.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

_GRID_UNITS = 25_000.0
_INITIAL_S = 0.08
"""How much of a word is its first consonant."""
_TIER = re.compile(r'name = "([^"]*)"')
_INTERVAL = re.compile(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "([^"]*)"')

Span = tuple[float, float]
"""Start and end in seconds."""


def closures(clip: Path, frames: int, fps: int) -> npt.NDArray[np.bool_]:
    """[frames] True where lips should be shut; nowhere without an alignment. Raises ValueError for a broken one."""
    shut = np.zeros(frames, bool)
    for start, end in _spans(clip):
        first = min(int(start * fps), frames - 1)
        shut[first : max(first + 1, int(end * fps))] = True
    return shut


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
                found = [(float(a), float(b), label) for a, b, label in _INTERVAL.findall(text)]
                return _phones(found) if kind == "phone" else _initials(found)
    raise ValueError(f"{path} has no tier of phones or words; tiers: {', '.join(tiers) or 'none'}")


def _phones(found: list[tuple[float, float, str]]) -> list[Span]:
    return [(start, end) for start, end, label in found if label[:1].lower() in "mbp" and label]


def _initials(found: list[tuple[float, float, str]]) -> list[Span]:
    return [
        (start, min(end, start + _INITIAL_S))
        for start, end, word in found
        if word[:1].lower() in "mbp" and word and word.lower() != "m"
    ]
