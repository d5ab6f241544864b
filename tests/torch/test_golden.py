"""Every array that the reference program recorded, against the functions that render.

The tolerances follow from floating-point arithmetic (warmtalk.golden.rounding). Mutations of the program show that the
tolerances still reveal an error.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.torch.conftest import CPU, GOLDEN
from warmtalk.cli import main
from warmtalk.core.errors import InvalidInput
from warmtalk.golden import rounding, runs, verify
from warmtalk.golden.table import Table

UNCHECKED = ["long_audio.npz nseg", "long_audio.npz count", "long_audio.npz idx", "long_audio.npz prompts"]
"""The folder does not hold their audio; audio_index.npz has the windows around its 30 s boundary."""
ONE_RUN = (
    "synth_offline.npz synth_v15_jaw/",
    "synth_offline.npz synth_noise",
    "synth_audio.npz",
    "parsing.npz label_map",
)


@pytest.fixture(scope="module")
def table(models: Path) -> tuple[Table, list[str]]:
    return verify.verify(GOLDEN, models, device="cpu", dtype="fp32")


def vectors_with(folder: Path, *prefixes: str) -> Path:
    """A folder of vectors with all inputs, and the arrays whose "file key" starts with one of `prefixes`."""
    shutil.copytree(GOLDEN, folder, ignore=shutil.ignore_patterns("synth_avatar*", "keys"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"] = [one for one in manifest["arrays"] if f"{one['file']} {one['key']}".startswith(prefixes)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def failures(table: Table) -> set[str]:
    """Keys of the rows that fail, without file and run."""
    return {row.array.split()[1].rpartition("/")[2] for row in table.rows if not row.passed}


def test_all_recorded_arrays_match(table: tuple[Table, list[str]]) -> None:
    failed = [str(row) for row in table[0].rows if not row.passed]
    assert not failed, "\n".join(failed)
    assert len(table[0].rows) > 170


def test_every_recorded_array_is_compared(table: tuple[Table, list[str]]) -> None:
    assert table[1] == UNCHECKED


def test_steps_without_transcendental_functions_are_exact(table: tuple[Table, list[str]]) -> None:
    exact = ("pcm16k", "crop256", "enc_in_masked", "mask_", "crop_box", "_blend", "get_image", "idx_fps")
    inexact = [row for row in table[0].rows if any(part in row.array for part in exact) and row.difference]
    assert [row.array for row in inexact] == ["edge.npz beyond_bottom/crop256"]  # corrected on purpose


def test_a_wrong_scale_of_the_latents_fails(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "VAE_SCALE", 0.1825)  # 0.2 % off
    vectors = vectors_with(tmp_path / "vectors", *ONE_RUN[1:], f"{ONE_RUN[0]}co", f"{ONE_RUN[0]}latents")
    assert failures(verify.verify(vectors, models, device="cpu")[0]) == {"latents"}


def test_features_that_are_one_frame_late_fail(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_time = verify.Installation.features
    monkeypatch.setattr(verify.Installation, "features", lambda *args: np.roll(in_time(*args), 1, 0))
    keys = (f"{ONE_RUN[0]}{key}" for key in ("co", "pred_latents", "recon"))
    table, _ = verify.verify(vectors_with(tmp_path / "vectors", *ONE_RUN[1:], *keys), models, device="cpu")
    assert failures(table) >= {"prompts_fps25", "prompts_pe_fps25", "pred_latents", "pred_latents_last", "recon"}


def test_half_precision_fails_the_tolerances_of_single_precision(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_with(tmp_path / "vectors", *ONE_RUN)
    command = ["verify-golden", str(vectors), "--models", str(models), "--device", "cpu"]
    assert main([*command, "--dtype", "fp16"]) == 0  # with the tolerances of fp16
    monkeypatch.setattr(verify, "pick_dtype", lambda name, device: torch.float16)
    single = rounding.rounding_error
    monkeypatch.setattr(
        "warmtalk.golden.installation.rounding_error",
        lambda networks, dtype, device: single(networks, torch.float32, device),
    )
    table, _ = verify.verify(vectors, models, device="cpu")
    networks = {"hidden_stack", "prompts_fps25", "post_mean", "post_std", "latents", "pred_latents", "recon"}
    assert failures(table) >= networks


def test_rounding_adds_in_squares_over_fan_in_and_depth() -> None:
    layers = [nn.Linear(300, 4), nn.Conv2d(8, 4, 5), nn.GroupNorm(1, 4)]  # 300 and 200 products a value
    both = rounding.rounding_error(layers, torch.float32, CPU)
    assert both.deviation == pytest.approx(2.0**-24 * np.sqrt(500))
    assert both.limit == pytest.approx(5 * both.deviation)
    assert rounding.rounding_error([nn.Sequential(*layers)], torch.float32, CPU) == both
    half = rounding.rounding_error(layers, torch.float16, CPU)
    assert half.deviation == pytest.approx(2.0**-11 * np.sqrt(3), rel=1e-2)
    assert (both.pixel_limit, both.pixel_share) == (1, pytest.approx(127.5 * both.deviation))


def test_two_orders_of_addition_differ_by_less_than_the_limit() -> None:
    """2000 sums of 1024 products, added in order and by halves: all within the limit, which is not out of reach."""
    products = np.random.default_rng(0).standard_normal((1024, 2000), np.float32)
    in_order, by_halves = np.add.accumulate(products, 0)[-1], products
    while len(by_halves) > 1:
        by_halves = np.add(*np.split(by_halves, 2))
    difference = np.abs(in_order - by_halves[0])
    limit = rounding.rounding_error([nn.Linear(1024, 1)], torch.float32, CPU).limit * np.abs(in_order).max()
    assert limit / 20 < difference.max() < limit


def test_a_quiet_band_may_differ_more_than_a_loud_band() -> None:
    limits = rounding.log_mel_limits(np.array([[1.5], [0.5], [-0.5]], np.float32))[:, 0]
    transform = limits - 8 * 2.0**-24
    assert transform == pytest.approx([transform[0], 100 * transform[0], 10_000 * transform[0]], rel=1e-5)
    assert limits[0] < 1e-6


def test_a_difference_fails() -> None:
    table = Table()
    zeros = np.zeros((2, 2), np.uint8)
    table.compare("a", zeros, zeros)
    assert table.passed
    table.compare("b", zeros, zeros + 1)
    assert not table.passed
    table = Table()
    table.compare("c", zeros, zeros + 1, np.array([[1, 1], [1, 0]]))
    assert not table.passed
    pixels = Table()
    pixels.compare_pixels("d", np.zeros(1000, np.uint8), np.eye(1, 1000, dtype=np.uint8)[0], 1, 0.002)
    assert pixels.passed
    pixels.compare_pixels("e", np.zeros(1000, np.uint8), np.eye(1, 1000, dtype=np.uint8)[0] * 2, 1, 0.002)
    assert not pixels.passed
    for actual in (np.zeros(3), np.full((2, 2), np.nan)):
        table = Table()
        table.compare("f", zeros, actual, 1.0)
        assert not table.passed


def test_a_folder_without_vectors(tmp_path: Path, models: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no folder of golden vectors"):
        verify.verify(tmp_path, models)
