"""The engine's benchmark: the last line is JSON with all figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import engine, lips
from benchmarks.roofline import Ceilings, Cost, cost_of
from warmtalk.config_loader import load
from warmtalk.core.types import Samples
from warmtalk.renderers import loading
from warmtalk.store import AvatarStore


def test_the_last_line_is_json(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--models", str(models), "--device", "cpu", "--batches", "1,2", "--runs", "1", "--seconds", "0.2"]
    monkeypatch.setattr(sys, "argv", ["benchmarks.engine", *options])
    engine.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["fps_by_batch"]) == {"1", "2"}
    assert result["gflop_per_frame"] > 1
    assert result["roofline_ratio"] > 0
    assert result["first_batch_ms"] > 0
    assert {"streams_25fps", "p99_gap_ms", "peak_mem_gb", "ceiling_tflops", "ceiling_gbps"} <= set(result)
    assert set(result["roofline_by_batch"]) == {"1", "2"}
    assert list(result["gaps_by_streams"])


def test_the_lips_benchmark_renders_with_musetalk(
    models: Path, avatars: Path, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame of an avatar, latents included, speaks half a second. Random weights have no lips to measure."""
    still = lips.closed_frame_bundle(AvatarStore(avatars).open("synth"), tmp_path / "still")
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(models))
    drawn = list(lips.render_frames(still, loading.load("musetalk", load(None)), speech[:8000]))
    assert len(drawn) == 13 and not np.array_equal(drawn[0], drawn[6])


def test_cost_of_a_product_a_convolution_and_attention() -> None:
    """FLOP and bytes as on paper, single precision."""
    a, b = torch.zeros(8, 16), torch.zeros(16, 32)
    assert cost_of(lambda: torch.relu(a @ b)).ops == ((2 * 8 * 16 * 32, 4 * (8 * 16 + 16 * 32 + 8 * 32)),)
    picture, kernel = torch.zeros(1, 4, 10, 10), torch.zeros(6, 4, 3, 3)
    convolved = cost_of(lambda: torch.nn.functional.conv2d(picture, kernel, padding=1))
    assert convolved.ops == ((2 * 6 * 100 * 4 * 9, 4 * (400 + 6 * 36 + 600)),)
    query = torch.zeros(1, 2, 64, 16)
    attended = cost_of(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert attended.ops == ((2 * 2 * 2 * 64 * 64 * 16, 4 * 4 * query.numel()),)


def test_the_least_time_is_that_of_the_tighter_ceiling() -> None:
    cost = Cost(((1_000_000, 10), (10, 1_000_000)))
    assert cost.seconds(Ceilings(tflops=1e-6, gbps=1e-3)) == pytest.approx(2.0)
