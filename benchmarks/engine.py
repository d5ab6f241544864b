"""python -m benchmarks.engine --models DIR [--device auto] [--dtype auto] [--batches 1,2,4,8,16]

MuseTalk on this machine: each stage alone, batches of many sizes, and how many 25 fps conversations it keeps up with.
A card for people, one JSON line last for programs. Weights of full size and random values: benchmarks.full_size.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import card
from warmtalk.core.ports import FaceJob
from warmtalk.core.scheduler import Scheduler, streams_at
from warmtalk.core.types import FrameClock
from warmtalk.models import load
from warmtalk.models.musetalk import MuseTalk, pick_device, pick_dtype
from warmtalk.models.musetalk_renderer import MuseTalkAvatar, MuseTalkRenderer
from warmtalk.models.speech_features import PIECE_SAMPLES, WhisperFeatures
from warmtalk.models.whisper import WhisperEncoder

FPS = Fraction(25)
_LATEST_S = 0.040
"""How late a frame may come, for 99 of 100."""
_SPEECH = (np.random.default_rng(0).standard_normal(30 * 16_000) * 0.1).astype(np.float32)


class Bench:
    def __init__(self, models_dir: Path, device: str, dtype: str) -> None:
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.networks = MuseTalk(models_dir, "v15", self.device, self.dtype)
        encoder = WhisperEncoder(load.whisper(models_dir, self.dtype), self.device)
        self.speech = WhisperFeatures(encoder, self.device)
        self.renderer = MuseTalkRenderer(self.networks, max_batch=64)
        self.avatar = MuseTalkAvatar("bench", torch.zeros(4, 8, 32, 32, device=self.device, dtype=self.dtype))
        self.features = np.zeros((50, 384), np.float32)

    def seconds(self, work: Callable[[], object], runs: int) -> float:
        """Median of `runs` after one more, waiting for the device."""
        times = []
        for _ in range(runs + 1):
            begin = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - begin)
        return float(np.median(times[1:]))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def stages(self, runs: int) -> dict[str, float]:
        """ms of one item of each stage."""
        latents, features = torch.zeros(1, 8, 32, 32), torch.zeros(1, 50, 384)
        predicted = self.networks.predict(latents, features)
        work: dict[str, Callable[[], object]] = {
            "log_mel_30s": lambda: self.speech.log_mel(_SPEECH),
            "whisper_30s": lambda: self.speech.encode([_SPEECH]),
            "unet": lambda: self.networks.predict(latents, features),
            "vae_decode": lambda: self.networks.decode(predicted),
        }
        return {name: self.seconds(one, runs) * 1000 for name, one in work.items()}

    def draw(self, count: int) -> None:
        self.renderer.render_many([FaceJob(self.avatar, 0, self.features)] * count)

    def gflop(self) -> float:
        """Of one frame: convolutions, products, attention."""
        with FlopCounterMode(display=False) as counter:
            self.draw(1)
        return counter.get_total_flops() / 1e9

    def ceilings(self) -> tuple[float, float]:
        """(TFLOP/s of a large product, GB/s of a large copy) in this precision on this device."""
        n = 8192 if self.device.type == "cuda" else 2048
        a = torch.zeros(n, n, device=self.device, dtype=self.dtype)
        flops = 2 * n**3 / self.seconds(lambda: a @ a, 3)
        big = torch.zeros(n * n * 4, device=self.device, dtype=self.dtype)
        moved = 2 * big.numel() * big.element_size() / self.seconds(lambda: big.clone(), 3)
        return flops / 1e12, moved / 1e9

    def first_batch_ms(self, runs: int) -> float:
        """From the first 160 ms of sound to the first face."""

        def first() -> None:
            heard = self.speech.start_stream(FrameClock(FPS)).accept(_SPEECH[: 2 * PIECE_SAMPLES])
            self.renderer.render(self.avatar, [0], heard[:1])

        return self.seconds(first, runs) * 1000

    def p99_gap_ms(self, streams: int, seconds: float, max_batch: int) -> float:
        """How long after it could be drawn a frame is there: 99 of 100, with so many streams in real time."""
        scheduler = Scheduler(max_batch=max_batch)
        begin = time.perf_counter()
        starts = [begin + stream * float(1 / FPS) / streams for stream in range(streams)]
        offered = [0] * streams
        for stream in range(streams):
            scheduler.open(stream, FPS, 1 << 30)
        late: list[float] = []
        while (now := time.perf_counter()) < begin + seconds:
            for stream, start in enumerate(starts):
                due = max(0, int((now - start) * FPS) + 1) if now >= start else 0
                scheduler.offer(stream, due - offered[stream], now)
                offered[stream] = due
            shares = scheduler.take()
            if not shares:
                time.sleep(0.001)
                continue
            self.draw(sum(share.count for share in shares))
            done = time.perf_counter()
            for share in shares:
                start = starts[int(str(share.key))]
                late += [done - start - float((share.first + i) / FPS) for i in range(share.count)]
        return float(np.percentile(late, 99)) * 1000 if late else float("inf")

    def peak_gb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def most_streams(bench: Bench, best_fps: float, seconds: float, max_batch: int) -> tuple[int, float]:
    """(streams, their p99 gap): the most that keep up, looked for downwards from what the faces a second allow."""
    streams = max(1, streams_at(best_fps, FPS, reserve=0.0))
    while True:
        gap = bench.p99_gap_ms(streams, seconds, max_batch)
        if gap < _LATEST_S * 1000 or streams == 1:
            return (streams if gap < _LATEST_S * 1000 else 0), gap
        streams = max(1, min(streams - 1, int(streams * 0.9)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[2])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batches", default="1,2,4,8,16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each try with many streams")
    args = parser.parse_args()
    bench = Bench(args.models, args.device, args.dtype)
    stages = bench.stages(args.runs)
    batches = [int(one) for one in args.batches.split(",")]
    rates = {size: size / bench.seconds(lambda size=size: bench.draw(size), args.runs) for size in batches}
    gflop, (tflops, gbps) = bench.gflop(), bench.ceilings()
    best = max(rates, key=lambda size: rates[size])
    streams, gap = most_streams(bench, rates[best], args.seconds, best)
    result = {
        "fps_by_batch": {str(size): round(rate, 3) for size, rate in rates.items()},
        "roofline_ratio": round(rates[best] * gflop / (tflops * 1000), 3),
        "streams_25fps": streams,
        "p99_gap_ms": round(gap, 1),
        "peak_mem_gb": round(bench.peak_gb(), 2),
        "first_batch_ms": round(bench.first_batch_ms(args.runs), 1),
        "stages_ms": {name: round(ms, 2) for name, ms in stages.items()},
        "gflop_per_frame": round(gflop, 1),
        "ceiling_tflops": round(tflops, 3),
        "ceiling_gbps": round(gbps, 1),
    }
    where = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    print(f"\nwarmtalk, MuseTalk engine: {where}, {str(bench.dtype).removeprefix('torch.')}, torch {torch.__version__}")
    print(card.machine())
    for key, value in result.items():
        print(f"  {key:18} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
