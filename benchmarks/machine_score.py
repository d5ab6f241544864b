"""python -m benchmarks.machine_score: speed of one core, so that figures of two machines compare.

Three fixed loads stand for the work of warmtalk on a CPU: float32 matrix products (networks), an image remap (faces)
and a Python loop (services). The score is the geometric mean of reference time / time, so a score of 2.0 is twice as
fast as the reference: one core of an Intel Xeon at 2.5 GHz (cloud server) with Python 3.11, OpenCV 4 and numpy 2. To
compare times of two machines, multiply each with the score of the machine. The loads are measured in CPU time of this
thread, so that other processes have little effect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import cv2
import numpy as np

_ROUNDS = 5
"""The fastest round counts. One round takes about 0.1 s on the reference machine."""
_REFERENCE_S = {"matmul": 0.029, "remap": 0.040, "python": 0.043}
"""CPU seconds of one round on the reference machine."""


def machine_score() -> float:
    """Measures for less than 1 s. Returns the speed relative to the reference machine."""
    loads = _loads()
    best_s = dict.fromkeys(loads, math.inf)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for _ in range(_ROUNDS):
            for name, load in loads.items():
                start = time.thread_time()
                load()
                best_s[name] = min(best_s[name], time.thread_time() - start)
    finally:
        cv2.setNumThreads(threads)
    return math.prod(_REFERENCE_S[name] / seconds for name, seconds in best_s.items()) ** (1 / len(best_s))


def _loads() -> dict[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    matrices = random.standard_normal((256, 64, 64)).astype(np.float32)  # 64 x 64: BLAS uses one thread
    image = random.integers(0, 256, (256, 256, 3), np.uint8)
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    map_x, map_y = (x + 3 * np.sin(y / 20)).astype(np.float32), (y + 3 * np.cos(x / 20)).astype(np.float32)
    return {
        "matmul": lambda: [matrices @ matrices for _ in range(10)],
        "remap": lambda: [cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC) for _ in range(20)],
        "python": _python_loop,
    }


def _python_loop() -> int:
    total = 0
    for number in range(500_000):
        total = (total * 31 + number) % 65_521
    return total


if __name__ == "__main__":
    print(f"{machine_score():.3f}")
