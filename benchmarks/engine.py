"""python -m benchmarks.engine [--models DIR] [--device auto] [--dtype auto] [--batches 1,2,4,8,16]

Benchmark of MuseTalk on this machine: each stage alone, batches of several sizes, the ratio to the roofline of the
device, and the number of 25 fps conversations in real time. Prints a card for people and one JSON line for programs.
Without --models the benchmark makes random weights of full size (1.8 GB in a temporary folder); the speed does not
depend on the values.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import card, full_size
from benchmarks.machine_score import machine_score
from benchmarks.roofline import Ceilings, Cost, cost_of
from warmtalk.core.ports import FaceJob
from warmtalk.core.scheduler import Scheduler, Share, streams_at
from warmtalk.core.types import FrameClock
from warmtalk.models.device import pick_device, pick_dtype
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.renderer import MuseTalkAvatar, MuseTalkRenderer
from warmtalk.models.musetalk.speech_features import CHUNK_SAMPLES, WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder

FPS = Fraction(25)
_MAX_LATENCY_S = 0.040
"""Limit of the 99th percentile of the latency of a frame."""
_SPEECH = (np.random.default_rng(0).standard_normal(30 * 16_000) * 0.1).astype(np.float32)


class EngineBenchmark:
    """Loaded networks, and one measurement per method."""

    def __init__(self, models_dir: Path, device: str, dtype: str) -> None:
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.networks = MuseTalk(models_dir, "v15", self.device, self.dtype)
        self.speech = WhisperFeatures(WhisperEncoder(models_dir, self.device, self.dtype))
        self.speech.warm_up()
        self.renderer = MuseTalkRenderer(self.networks)
        if self.device.type == "cuda":
            self.renderer.measure()
        self.avatar = MuseTalkAvatar("bench", torch.zeros(4, 8, 32, 32, device=self.device, dtype=self.dtype))
        self.features = np.zeros((50, 384), np.float32)

    def seconds(self, work: Callable[[], object], runs: int) -> float:
        """Returns the median duration of `runs` runs after a first run, each until the device is idle."""
        times = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return float(np.median(times[1:]))

    def wait(self) -> None:
        """Waits until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def stages(self, runs: int) -> dict[str, float]:
        """Returns the milliseconds of one item of each stage."""
        latents, features = torch.zeros(1, 8, 32, 32), torch.zeros(1, 50, 384)
        predicted = self.networks.predict(latents, features)
        work: dict[str, Callable[[], object]] = {
            "log_mel_30s": lambda: self.speech.log_mel(_SPEECH),
            "whisper_30s": lambda: self.speech.encode([_SPEECH]),
            "unet": lambda: self.networks.predict(latents, features),
            "vae_decode": lambda: self.networks.decode(predicted),
        }
        return {name: self.seconds(one, runs) * 1000 for name, one in work.items()}

    def submit(self, count: int) -> Callable[[], object]:
        return self.renderer.submit_batch([FaceJob(self.avatar, 0, self.features)] * count)

    def render(self, count: int) -> None:
        """Renders one batch of `count` faces."""
        self.submit(count)()

    def cost(self, count: int) -> Cost:
        """Returns the arithmetic and the memory traffic of one batch."""
        latents, features = torch.zeros(count, 8, 32, 32), torch.zeros(count, 50, 384)
        return cost_of(lambda: self.networks.decode(self.networks.predict(latents, features)))

    def ceilings(self) -> Ceilings:
        """Measures the peak arithmetic and memory bandwidth of this device in this precision."""
        n = 8192 if self.device.type == "cuda" else 2048
        a = torch.randn(n, n, device=self.device, dtype=self.dtype)
        flops = 2 * n**3 / self.seconds(lambda: a @ a, 5)
        big = torch.zeros(n * n * 4, device=self.device, dtype=self.dtype)
        moved = 2 * big.numel() * big.element_size() / self.seconds(lambda: big.clone(), 5)
        return Ceilings(flops / 1e12, moved / 1e9)

    def first_batch_ms(self, runs: int) -> float:
        """Returns the time from the first 160 ms of audio to the first face."""

        def first() -> None:
            features = self.speech.start_stream(FrameClock(FPS)).push_audio(_SPEECH[: 2 * CHUNK_SAMPLES])
            self.renderer.render(self.avatar, [0], features[:1])

        return self.seconds(first, runs) * 1000

    def p99_gap_ms(self, streams: int, seconds: float, max_batch: int) -> float:
        """Returns the 99th percentile of the latency of a frame, with `streams` streams in real time.

        The latency runs from the time when the frame could be rendered to the finished face.
        """
        scheduler = Scheduler(max_batch=max_batch)
        in_progress: deque[tuple[list[Share], Callable[[], object]]] = deque()
        start_s = time.perf_counter()
        starts = [start_s + stream * float(1 / FPS) / streams for stream in range(streams)]
        offered = [0] * streams
        for stream in range(streams):
            scheduler.open(stream, FPS, 1 << 30)
        latencies: list[float] = []
        while (now := time.perf_counter()) < start_s + seconds:
            for stream, start in enumerate(starts):
                due = max(0, int((now - start) * FPS) + 1) if now >= start else 0
                scheduler.add_frames(stream, due - offered[stream], now)
                offered[stream] = due
            if shares := scheduler.next_batch():
                in_progress.append((shares, self.submit(sum(share.count for share in shares))))
            elif not in_progress:
                time.sleep(0.001)
            if in_progress and (len(in_progress) == 2 or not shares):  # as in the engine: one more is submitted
                finished, wait = in_progress.popleft()
                wait()
                done = time.perf_counter()
                for share in finished:
                    start = starts[int(str(share.key))]
                    latencies += [done - start - float((share.first + i) / FPS) for i in range(share.count)]
        return float(np.percentile(latencies, 99)) * 1000 if latencies else float("inf")

    def peak_gb(self) -> float:
        """Returns the peak memory of the device; on a CPU that of the process."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device)) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def most_streams(
    bench: EngineBenchmark, best_fps: float, seconds: float, max_batch: int
) -> tuple[int, dict[int, float]]:
    """Returns (largest number of streams in real time, 99th percentile in ms for each number tried).

    The search goes down from the number given by the throughput.
    """
    streams, gaps = max(1, streams_at(best_fps, FPS, reserve=0.0)), {}
    while True:
        gaps[streams] = bench.p99_gap_ms(streams, seconds, max_batch)
        if gaps[streams] < _MAX_LATENCY_S * 1000:
            return streams, gaps
        if streams == 1:
            return 0, gaps
        streams = max(1, min(streams - 1, int(streams * 0.9)))


def measure(bench: EngineBenchmark, batches: list[int], runs: int, seconds: float) -> dict[str, Any]:
    stages = bench.stages(runs)
    rates = {size: size / bench.seconds(partial(bench.render, size), runs) for size in batches}
    ceilings = bench.ceilings()
    ideal = {size: size / bench.cost(size).seconds(ceilings) for size in batches}
    best = max(rates, key=lambda size: rates[size])
    streams, gaps = most_streams(bench, rates[best], seconds, best)
    return {
        "fps_by_batch": {str(size): round(rate, 3) for size, rate in rates.items()},
        "roofline_by_batch": {str(size): round(rates[size] / ideal[size], 3) for size in batches},
        "roofline_ratio": round(rates[best] / ideal[best], 3),
        "streams_25fps": streams,
        "p99_gap_ms": round(gaps[streams or 1], 1),
        "gaps_by_streams": {str(count): round(gap, 1) for count, gap in gaps.items()},
        "peak_mem_gb": round(bench.peak_gb(), 2),
        "first_batch_ms": round(bench.first_batch_ms(runs), 1),
        "way": str(bench.networks.mode),
        "stages_ms": {name: round(ms, 2) for name, ms in stages.items()},
        "gflop_per_frame": round(bench.cost(1).gflop, 1),
        "ceiling_tflops": round(ceilings.tflops, 3),
        "ceiling_gbps": round(ceilings.gbps, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[2], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, help="published or lean weights (default: random ones of full size)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batches", default="1,2,4,8,16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each try with many streams")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.models is None:
            args.models = Path(folder)
            full_size.build(args.models)
        bench = EngineBenchmark(args.models, args.device, args.dtype)
        result = measure(bench, [int(one) for one in args.batches.split(",")], args.runs, args.seconds)
    result["machine_score"] = round(machine_score(), 3)
    where = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    print(f"\nwarmtalk, MuseTalk engine: {where}, {str(bench.dtype).removeprefix('torch.')}, torch {torch.__version__}")
    print(card.describe_machine())
    for key, value in result.items():
        print(f"  {key:18} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
