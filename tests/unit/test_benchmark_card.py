"""The card of a benchmark: figures, speed of the machine, and one JSON line at the end."""

from __future__ import annotations

import json

import cv2
import pytest

from benchmarks import card, machine_score


def test_the_last_line_is_json_with_the_speed_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    card.print_card("title", [("time_ms", 1.23456, "ms"), ("missing", float("nan"), "not measured")])
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert (figures["time_ms"], figures["missing"]) == (1.235, None)
    assert figures["machine_score"] > 0
    assert [line.split()[0] for line in lines[-3:]] == ["time_ms", "missing", "machine_score"]


def test_the_score_follows_the_speed_of_the_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = cv2.getNumThreads()
    clock = iter(range(1000))
    monkeypatch.setattr(machine_score.time, "thread_time", lambda: next(clock) * 0.1)
    monkeypatch.setattr(machine_score, "_loads", lambda: {"matmul": lambda: None, "python": lambda: None})
    monkeypatch.setattr(machine_score, "_REFERENCE_S", {"matmul": 0.4, "python": 0.1})
    assert machine_score.machine_score() == pytest.approx(2.0)
    assert cv2.getNumThreads() == threads
