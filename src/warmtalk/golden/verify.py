"""All golden checks of a folder, in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from warmtalk.core.types import Samples
from warmtalk.golden import audio, runs, steps
from warmtalk.golden.table import ON_CUDA, TOLERANCES, Row, Table, Tolerances
from warmtalk.golden.vectors import Vectors, fps_of, version_of
from warmtalk.models.checkpoints import load
from warmtalk.models.device import pick_device, pick_dtype
from warmtalk.models.musetalk.latents import LatentEncoder
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.speech_features import WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder


class _Installation:
    """The networks under test, each loaded when it is first needed."""

    def __init__(self, models_dir: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._args = (models_dir, device, dtype)
        self.speech = WhisperFeatures(WhisperEncoder(load.whisper(models_dir, dtype), device), device)
        self.encoder = LatentEncoder(models_dir, device, dtype, batch=1)
        self._networks: dict[str, MuseTalk] = {}

    def networks(self, version: str) -> MuseTalk:
        if version not in self._networks:
            models_dir, device, dtype = self._args
            # With the timestep folded in: the network under test is the one that renders.
            self._networks[version] = MuseTalk(models_dir, version, device, dtype)
        return self._networks[version]


def verify(
    folder: Path,
    models_dir: Path,
    *,
    device: str = "auto",
    dtype: str = "fp32",
    tell: Callable[[Row], None] = lambda row: None,
) -> tuple[Table, list[str]]:
    """The comparison, and the names of recorded arrays that nothing was compared with.

    `tell` is called with each row as soon as it is known. Raises InvalidInput for a folder that is none, NotReady and
    Damaged for weights that are missing or broken.
    """
    vectors, table = Vectors(folder), _Telling(tell)
    where = pick_device(device)
    limit = ON_CUDA if dtype == "fp32" and where.type == "cuda" else TOLERANCES[dtype]
    installed = _Installation(models_dir, where, pick_dtype(dtype, where))
    audio.check_windows(vectors, table)
    audio.check_positions(vectors, table)
    steps.check_parsing(vectors, table)
    steps.check_edges(vectors, table)
    for name in vectors.names:
        heard = audio.check_sound(vectors, name, installed.speech, limit, table)
        for file in (f"{name}_offline.npz", f"{name}_realtime.npz"):
            for run in vectors.runs(file):
                runs.check_run(_run(vectors, file, run, name, heard, installed, limit, table))
    return table, [f"{file} {key}" for file, key in vectors.about if (file, key) not in vectors.used]


def _run(
    vectors: Vectors,
    file: str,
    run: str,
    name: str,
    heard: Samples,
    installed: _Installation,
    limit: Tolerances,
    table: Table,
) -> runs.GoldenRun:
    return runs.GoldenRun(
        vectors,
        file,
        run,
        vectors.get(f"{name}_offline.npz", f"{name}_noise"),
        vectors.frames(name),
        installed.speech.reference(heard, fps_of(run)),
        installed.networks(version_of(run)),
        installed.encoder,
        limit,
        table,
    )


class _Telling(Table):
    """A table that says each row."""

    def __init__(self, tell: Callable[[Row], None]) -> None:
        super().__init__(_Rows(tell))


class _Rows(list[Row]):
    def __init__(self, tell: Callable[[Row], None]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, row: Row) -> None:
        super().append(row)
        self._tell(row)
