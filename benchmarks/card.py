"""How a benchmark shows its figures: a card for people, one JSON line last for programs."""

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


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = f"Python {platform.python_version()}, OpenCV {cv2.__version__}, numpy {np.__version__}"
    return f"{model}, {os.cpu_count()} cores, {versions}"


def show(title: str, rows: list[tuple[str, float, str]]) -> None:
    """`rows`: key of the JSON line, figure, what it is with its target."""
    print(f"\n{title}\n{machine()}")
    for key, figure, text in rows:
        print(f"  {key:24} {figure:10.3f}   {text}")
    sys.stdout.flush()
    print(json.dumps({key: round(figure, 3) if math.isfinite(figure) else None for key, figure, _ in rows}))


def median_ms(work: Callable[[], object], runs: int = 7, inner: int = 20) -> float:
    """Milliseconds of one call: median over `runs` of the mean of `inner` calls, after one warm-up."""
    work()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        for _ in range(inner):
            work()
        times.append((time.perf_counter() - begin) / inner * 1000)
    return statistics.median(times)
