"""Every array that the reference program recorded, through the functions that this program renders with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.torch.conftest import GOLDEN
from warmtalk.core.errors import InvalidInput
from warmtalk.golden.table import Table, Tolerances
from warmtalk.golden.verify import verify

UNCHECKED = ["long_audio.npz nseg", "long_audio.npz count", "long_audio.npz idx", "long_audio.npz prompts"]
"""Their sound is not in the folder; the windows around its 30 s boundary are in audio_index.npz."""


@pytest.fixture(scope="module")
def table(models: Path) -> tuple[Table, list[str]]:
    return verify(GOLDEN, models, device="cpu", dtype="fp32")


def test_all_recorded_arrays_are_met(table: tuple[Table, list[str]]) -> None:
    failed = [str(row) for row in table[0].rows if not row.passed]
    assert not failed, "\n".join(failed)
    assert len(table[0].rows) > 170


def test_no_recorded_array_is_passed_over(table: tuple[Table, list[str]]) -> None:
    assert table[1] == UNCHECKED


def test_what_comes_before_the_networks_is_exact(table: tuple[Table, list[str]]) -> None:
    exact = ("pcm16k", "mel", "crop256", "enc_in_masked", "mask_", "crop_box", "_blend", "get_image", "idx_fps")
    inexact = [row for row in table[0].rows if any(part in row.array for part in exact) and row.difference]
    assert [row.array for row in inexact] == ["edge.npz beyond_bottom/crop256"]  # corrected on purpose


def test_a_difference_fails() -> None:
    table = Table()
    zeros = np.zeros((2, 2), np.uint8)
    table.close("a", zeros, zeros)
    assert table.passed
    table.close("b", zeros, zeros + 1)
    assert not table.passed
    pixels = Table()
    pixels.pixels("c", np.zeros(1000, np.uint8), np.eye(1, 1000, dtype=np.uint8)[0], Tolerances(0, 0, 0, 0, 1, 0.002))
    assert pixels.passed
    pixels.close("d", zeros, np.zeros(3))
    assert not pixels.passed


def test_no_folder_of_vectors(tmp_path: Path, models: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no folder of golden vectors"):
        verify(tmp_path, models)
