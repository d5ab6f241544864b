"""Output of a benchmark: a card for people, and one JSON line at the end for programs."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.machine_score import machine_score

Rows = list[tuple[str, float, str]]
"""Figures of a card: key of the JSON line, value, description with unit and target."""


def describe_machine() -> str:
    """Returns processor, cores, load average (above the number of cores: figures are too slow) and library versions."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = f"Python {platform.python_version()}, OpenCV {cv2.__version__}, numpy {np.__version__}"
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def print_card(title: str, rows: Rows) -> None:
    """Measures the speed of the machine, then prints the card and the JSON line. NaN and infinity become null."""
    score = machine_score()
    print(f"\n{title}\n{describe_machine()}")
    for key, figure, text in (*rows, ("machine_score", score, "speed of one core; 1.0: benchmarks/machine_score.py")):
        print(f"  {key:24} {figure:10.3f}   {text}")
    sys.stdout.flush()
    figures = {key: figure for key, figure, _ in rows} | {"machine_score": score}
    print(json.dumps({key: round(figure, 3) if math.isfinite(figure) else None for key, figure in figures.items()}))


def median_ms(work: Callable[[], object], runs: int = 7, inner: int = 20) -> float:
    """Returns the milliseconds of one call: median over `runs` of the mean of `inner` calls, after one warm-up call."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(inner):
            work()
        times.append((time.perf_counter() - start) / inner * 1000)
    return statistics.median(times)
