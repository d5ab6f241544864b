"""python -m benchmarks.prep [--ten-minutes]: a film to an avatar, in a process of its own as the service is.

Seconds and size for ten seconds of 720p. Memory is that of the process and its children, the most of all moments; of
half a minute of 1080p here, and with --ten-minutes of the longest film that is taken.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import card, inputs
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.media.video_decode import SourceLimits
from warmtalk.store import AvatarStore

_LOOK_S = 0.05
_MIB = 1 << 20
Row = tuple[str, float, str]


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        small = inputs.write_video(Path(folder) / "small.mp4", 10, 1280, 720)
        seconds, _ = _built(small, Path(folder))
        size = sum(path.stat().st_size for path in (Path(folder) / "avatars" / "small").rglob("*") if path.is_file())
        large = inputs.write_video(Path(folder) / "large.mp4", 30, 1920, 1080)
        _, peak = _built(large, Path(folder))
    return [
        ("prep_s_10s_720p", seconds, "s to make an avatar of 10 s at 720p (target 12 on two cores)"),
        ("prep_peak_mb", peak, "MB of prep and its decoders, 30 s at 1080p (target 1500; also with --ten-minutes)"),
        ("bundle_mb", size / _MIB, "MB of that avatar of 10 s at 720p, without latents (target 15)"),
    ]


def measure_longest() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        part = inputs.write_video(Path(folder) / "part.mp4", 30, 1920, 1080)
        film = inputs.repeat_video(part, Path(folder) / "long.mp4", 20)
        seconds, peak = _built(film, Path(folder))
    return [
        ("prep_peak_mb_10min_1080p", peak, "MB of prep and its decoders, ten minutes at 1080p (target 1500)"),
        ("prep_s_10min_1080p", seconds, "s to make that avatar"),
    ]


def _built(film: Path, folder: Path) -> tuple[float, float]:
    """(seconds, most MB) of building it in a child."""
    command = [sys.executable, "-m", "benchmarks.prep", "build", str(film), str(folder)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            peak = max(peak, _resident(child.pid))
            time.sleep(_LOOK_S)
        assert child.stdout is not None and child.returncode == 0
        return float(json.load(child.stdout)), peak / _MIB


def _resident(pid: int) -> int:
    """Bytes of a process and all below it; what they share counts for each."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        held = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS")), 0)
        below = [one for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return 0
    return held + sum(_resident(int(one)) for one in below)


def _build(film: Path, folder: Path) -> None:
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    order = BuildRequest(film.stem, film, film.name, digest, BuildParams())
    began = time.perf_counter()
    AvatarBuilder(AvatarStore(folder / "avatars"), SourceLimits()).build(order, lambda progress: None)
    print(json.dumps(time.perf_counter() - began))


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        _build(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        card.print_card("prep", measure_longest() if "--ten-minutes" in sys.argv else measure())
