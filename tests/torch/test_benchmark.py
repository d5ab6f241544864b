"""The engine's benchmark: its last line is for programs and has all figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import engine


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
