"""All golden checks of a folder, in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from warmtalk.golden import audio, runs, steps
from warmtalk.golden.installation import Installation
from warmtalk.golden.table import Comparison, Table
from warmtalk.golden.vectors import Vectors, fps_of
from warmtalk.models.device import pick_device, pick_dtype


def verify(
    folder: Path,
    models_dir: Path,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    on_row: Callable[[Comparison], None] = lambda row: None,
) -> tuple[Table, list[str]]:
    """Returns the comparisons, and "file key" of each recorded array without a comparison.

    `on_row` is called with each comparison as soon as the result is known. Raises InvalidInput for a folder without
    vectors, NotReady and Damaged for weights that are missing or broken.
    """
    vectors, table = Vectors(folder), Table(on_row)
    target = pick_device(device)
    installed = Installation(models_dir, target, pick_dtype(dtype, target))
    audio.check_windows(vectors, table)
    audio.check_positions(vectors, table)
    steps.check_parsing(vectors, table)
    steps.check_edges(vectors, table)
    for clip in vectors.names:
        samples = audio.check_audio(vectors, clip, installed, table)
        for file in (f"{clip}_offline.npz", f"{clip}_realtime.npz"):
            for name in vectors.runs(file):
                features = installed.features(samples, fps_of(name))
                runs.check_run(runs.GoldenRun(vectors, file, name, clip, features, installed, table))
    return table, [f"{file} {key}" for file, key in vectors.descriptions if (file, key) not in vectors.used]
