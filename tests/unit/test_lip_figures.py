"""The figures of benchmarks.lips for synthetic mouths with known values, and the reading of alignments."""

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
    """Returns [n, 468, 2] points of a face with an eye distance of 100 pixels."""
    points = np.tile(np.random.default_rng(2).uniform(0, 100, (468, 2)), (len(gaps), 1, 1)).astype(np.float32)
    points[:, EYES[0]], points[:, EYES[1]] = (0, 0), (100, 0)
    half = 40 + 3 * np.sin(TIMES / 7)
    points[:, 61], points[:, 291] = (np.stack([50 + side * half, 0 * half + 90], 1) for side in (-1, 1))
    for number, (up, down) in enumerate(zip(INNER_UPPER, INNER_LOWER, strict=True)):
        points[:, up] = (20 + 6 * number, 90)
        points[:, down] = np.stack([np.full(len(gaps), 20 + 6 * number), 90 + 100 * gaps], 1)
    return points


def measured(rendered: Array, closures: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
    closures = np.zeros(100, bool) if closures is None else closures
    track = LipTrack("clip", mouth(SPEECH), mouth(rendered), np.ones(100, bool), closures)
    return {key: figure for key, figure, _ in figures([track])}


def test_the_same_mouth_is_perfect() -> None:
    found = measured(SPEECH)
    assert found["r_open"] == pytest.approx(1) and found["jitter_ratio"] == pytest.approx(1)
    assert found["lag_ms"] == pytest.approx(0, abs=1) and found["lmd"] == pytest.approx(0, abs=1e-4)


def test_a_late_mouth_has_a_lag() -> None:
    late = np.clip(0.12 * np.sin((TIMES - 1.5) / 4), 0, None).astype(np.float32)
    assert measured(late)["lag_ms"] == pytest.approx(60, abs=8)


def test_jitter_is_measured() -> None:
    jittering = SPEECH + np.random.default_rng(3).uniform(0, 0.02, 100).astype(np.float32)
    assert measured(jittering)["jitter_ratio"] > 2


def test_closures_count_at_the_aligned_frames() -> None:
    """The real mouth is closed from frame 13 to 25 and at frame 44. The rendered mouth misses the first closure."""
    ajar = np.where((TIMES > 30) & (TIMES < 60), SPEECH, np.maximum(SPEECH, 0.06)).astype(np.float32)
    closures = np.isin(TIMES, (19, 44))
    found = measured(ajar, closures)
    assert (found["closure_rate"], found["closure_rate_real"]) == (0.5, 1.0)
    assert 0 < found["closure_chance"] < 0.5
    assert np.isnan(measured(ajar)["closure_rate"])


def test_closures_of_a_grid_alignment(tmp_path: Path) -> None:
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


def test_closures_of_a_praat_alignment(tmp_path: Path) -> None:
    grid = tmp_path / "clip.TextGrid"
    grid.write_text(PRAAT)
    assert np.flatnonzero(closures(tmp_path / "clip.mp4", 20, 25)).tolist() == [1, 2, 8, 9]
    grid.write_text(PRAAT.replace('"phones"', '"notes"'))
    assert np.flatnonzero(closures(tmp_path / "clip.mp4", 20, 25)).tolist() == [0, 1]
    grid.write_text("nothing")
    with pytest.raises(ValueError, match="no tier of phones or words"):
        closures(tmp_path / "clip.mp4", 20, 25)
