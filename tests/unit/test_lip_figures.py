"""The meters of benchmarks.lips, on mouths whose figures are known, and the alignments they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.alignment import closures
from benchmarks.lip_figures import LipTrack, figures
from warmtalk.models.mesh.landmark_measures import EYES, INNER_LOWER, INNER_UPPER

Array = npt.NDArray[np.float32]
TIMES = np.arange(100)
SPEECH = np.clip(0.12 * np.sin(TIMES / 4), 0, None).astype(np.float32)


def mouth(gaps: Array) -> Array:
    """[n, 468, 2] points of a face whose eyes are 100 pixels apart."""
    points = np.tile(np.random.default_rng(2).uniform(0, 100, (468, 2)), (len(gaps), 1, 1)).astype(np.float32)
    points[:, EYES[0]], points[:, EYES[1]] = (0, 0), (100, 0)
    half = 40 + 3 * np.sin(TIMES / 7)
    points[:, 61], points[:, 291] = (np.stack([50 + side * half, 0 * half + 90], 1) for side in (-1, 1))
    for place, (up, down) in enumerate(zip(INNER_UPPER, INNER_LOWER, strict=True)):
        points[:, up] = (20 + 6 * place, 90)
        points[:, down] = np.stack([np.full(len(gaps), 20 + 6 * place), 90 + 100 * gaps], 1)
    return points


def measured(ours: Array, shut: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
    shut = np.zeros(100, bool) if shut is None else shut
    track = LipTrack("clip", mouth(SPEECH), mouth(ours), np.ones(100, bool), shut)
    return {key: figure for key, figure, _ in figures([track])}


def test_the_same_mouth_is_perfect() -> None:
    found = measured(SPEECH)
    assert found["r_open"] == pytest.approx(1) and found["jitter_ratio"] == pytest.approx(1)
    assert found["lag_ms"] == pytest.approx(0, abs=1) and found["lmd"] == pytest.approx(0, abs=1e-4)


def test_a_late_mouth_has_a_lag() -> None:
    late = np.clip(0.12 * np.sin((TIMES - 1.5) / 4), 0, None).astype(np.float32)
    assert measured(late)["lag_ms"] == pytest.approx(60, abs=8)


def test_a_trembling_mouth_is_told() -> None:
    trembling = SPEECH + np.random.default_rng(3).uniform(0, 0.02, 100).astype(np.float32)
    assert measured(trembling)["jitter_ratio"] > 2


def test_closures_count_where_the_alignment_says() -> None:
    """The real mouth shuts from 13 to 25 and opens to its widest at 6: an m at 6 is missed by both."""
    ajar = np.where((TIMES > 30) & (TIMES < 60), SPEECH, np.maximum(SPEECH, 0.06)).astype(np.float32)
    shut = np.isin(TIMES, (19, 44))
    found = measured(ajar, shut)
    assert (found["closure_rate"], found["closure_rate_real"]) == (0.5, 1.0)
    assert 0 < found["closure_chance"] < 0.5
    assert np.isnan(measured(ajar)["closure_rate"])


def test_grids_words_tell_closures(tmp_path: Path) -> None:
    (tmp_path / "clip.align").write_text("0 5000 sil\n5000 10000 bin\n10000 15000 m\n15000 20000 red\n")
    assert np.flatnonzero(closures(tmp_path / "clip.mp4", 20, 25)).tolist() == [5, 6]
    assert not closures(tmp_path / "other.mp4", 20, 25).any()


PRAAT = """File type = "ooTextFile"
Object class = "TextGrid"
    item [1]:
        name = "words"
        intervals [1]:
            xmin = 0.0
            xmax = 0.4
            text = "bam"
    item [2]:
        name = "phones"
        intervals [1]:
            xmin = 0.04
            xmax = 0.12
            text = "B"
        intervals [2]:
            xmin = 0.12
            xmax = 0.32
            text = "AE1"
        intervals [3]:
            xmin = 0.32
            xmax = 0.40
            text = "M"
"""


def test_praats_phones_tell_closures(tmp_path: Path) -> None:
    grid = tmp_path / "clip.TextGrid"
    grid.write_text(PRAAT)
    assert np.flatnonzero(closures(tmp_path / "clip.mp4", 20, 25)).tolist() == [1, 2, 8, 9]
    grid.write_text(PRAAT.replace('"phones"', '"notes"'))
    assert np.flatnonzero(closures(tmp_path / "clip.mp4", 20, 25)).tolist() == [0, 1]
    grid.write_text("nothing")
    with pytest.raises(ValueError, match="no tier of phones or words"):
        closures(tmp_path / "clip.mp4", 20, 25)
