"""python -m benchmarks.prep [--ten-minutes]: builds an avatar from a video, in a separate process like the service.

Measures seconds and bundle size for ten seconds of 720p, and the peak memory of the process and its children for 30
seconds of 1080p, or with --ten-minutes for the longest allowed video.
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

_POLL_S = 0.05
"""Polling interval of the memory."""
_MIB = 1 << 20
Row = tuple[str, float, str]


def measure() -> list[Row]:
    """Returns the rows of the default run."""
    with tempfile.TemporaryDirectory() as folder:
        small = inputs.write_video(Path(folder) / "small.mp4", 10, 1280, 720)
        seconds, _ = _build_in_child(small, Path(folder))
        size = sum(path.stat().st_size for path in (Path(folder) / "avatars" / "small").rglob("*") if path.is_file())
        large = inputs.write_video(Path(folder) / "large.mp4", 30, 1920, 1080)
        _, peak = _build_in_child(large, Path(folder))
    return [
        ("prep_s_10s_720p", seconds, "s to build an avatar of 10 s at 720p (target 12 on two cores)"),
        ("prep_peak_mb", peak, "MB of prep and its decoders, 30 s at 1080p (target 1500; also with --ten-minutes)"),
        ("bundle_mb", size / _MIB, "MB of the avatar of 10 s at 720p, without latents (target 15)"),
    ]


def measure_longest() -> list[Row]:
    """Returns the rows for ten minutes of 1080p."""
    with tempfile.TemporaryDirectory() as folder:
        part = inputs.write_video(Path(folder) / "part.mp4", 30, 1920, 1080)
        video = inputs.repeat_video(part, Path(folder) / "long.mp4", 20)
        seconds, peak = _build_in_child(video, Path(folder))
    return [
        ("prep_peak_mb_10min_1080p", peak, "MB of prep and its decoders, ten minutes at 1080p (target 1500)"),
        ("prep_s_10min_1080p", seconds, "s to build the avatar of ten minutes at 1080p"),
    ]


def _build_in_child(video: Path, folder: Path) -> tuple[float, float]:
    """Returns seconds and peak MB of a build in a child process."""
    command = [sys.executable, "-m", "benchmarks.prep", "build", str(video), str(folder)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            peak = max(peak, _resident(child.pid))
            time.sleep(_POLL_S)
        assert child.stdout is not None and child.returncode == 0
        return float(json.load(child.stdout)), peak / _MIB


def _resident(pid: int) -> int:
    """Returns the resident bytes of a process and its descendants; shared memory counts for each process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        resident = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS")), 0)
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # the process has just ended
        return 0
    return resident + sum(_resident(int(child)) for child in children)


def _build(video: Path, folder: Path) -> None:
    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    request = BuildRequest(video.stem, video, video.name, digest, BuildParams())
    start = time.perf_counter()
    AvatarBuilder(AvatarStore(folder / "avatars"), SourceLimits()).build(request, lambda progress: None)
    print(json.dumps(time.perf_counter() - start))


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        _build(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        card.print_card("prep", measure_longest() if "--ten-minutes" in sys.argv else measure())
