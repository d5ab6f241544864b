"""python -m benchmarks.joins: measures the time to append a clip to a conversation of 1, 10 and 60 minutes."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import card
from warmtalk.core.types import FrameClock
from warmtalk.media import concat
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile, ConversationFileState

_CLIP_S = 10
_MINUTES = (1, 10, 60)
_RUNS = 5


def measure() -> list[tuple[str, float, str]]:
    """Returns the median time for each length of the conversation."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> list[tuple[str, float, str]]:
    clock = FrameClock()
    clip = _make_clip(folder / "clip.mp4", clock)
    target, state = folder / "conversation.mp4", ConversationFileState()
    rows = []
    for minutes in _MINUTES:
        while state.frames < minutes * 60 * clock.fps:
            state = concat.append_clip(target, state, clip, clock)
        times = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            state = concat.append_clip(target, state, clip, clock)
            times.append((time.perf_counter() - start) * 1000)
        text = f"ms to append {_CLIP_S} s to {minutes} min"
        rows.append((f"append_ms_{minutes}min", statistics.median(times), text))
    return rows


def _make_clip(path: Path, clock: FrameClock) -> ClipFile:
    writer = ClipWriter(path, 320, 180, clock)
    noise = np.random.default_rng(1).integers(0, 255, (180, 320, 3), np.uint8)
    for number in range(int(_CLIP_S * clock.fps)):
        writer.write_bgr(np.roll(noise, number, 1))
    writer.write_audio(np.zeros(_CLIP_S * 48_000, np.float32))
    return writer.finish()


if __name__ == "__main__":
    card.print_card("joins", measure())
