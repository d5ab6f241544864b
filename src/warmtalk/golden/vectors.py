"""A folder of recorded arrays: manifest.json, *.npz, and the inputs of the arrays.

NAME_clip.wav, NAME_frames/    inputs            NAME_audio.npz       audio features at each step
NAME_offline.npz               runs of the offline program: NAME_v15_jaw/..., NAME_v1/..., NAME_..._fps30/...
NAME_realtime.npz              runs of the realtime program: NAME_rt_v15/...
audio_index, pe, parsing, edge, long_audio .npz        inputs and outputs of single steps
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import Image
from warmtalk.golden.table import Array


class Vectors:
    """Opens files on first use, and records which arrays were used."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput when the folder has no readable manifest."""
        self.path = path
        try:
            entries = json.loads((path / "manifest.json").read_text("utf-8"))["arrays"]
            self.descriptions: dict[tuple[str, str], str] = {
                (entry["file"], entry["key"]): str(entry.get("desc", "")) for entry in entries
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{path} is no folder of golden vectors: manifest.json: {error}", "Check the path"
            ) from error
        self.used: set[tuple[str, str]] = set()
        """File and key of each array that `get` has returned."""
        self._open: dict[str, Any] = {}

    def keys(self, file: str, prefix: str = "") -> list[str]:
        """Returns the keys of `file` in the manifest that start with `prefix`."""
        return [key for name, key in self.descriptions if name == file and key.startswith(prefix)]

    def get(self, file: str, key: str) -> Array:
        """Returns an array. Raises InvalidInput when the file or the array is missing or broken."""
        self.used.add((file, key))
        try:
            if file not in self._open:
                self._open[file] = np.load(self.path / file)
            return cast(Array, self._open[file][key])
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInput(
                f"{self.path / file} has no readable array {key!r}: {error}", "Copy the folder of vectors again"
            ) from error

    def find(self, file: str, key: str) -> Array | None:
        """Returns an array, or None when the manifest does not list the array. Raises as `get` does."""
        return self.get(file, key) if (file, key) in self.descriptions else None

    @cached_property
    def names(self) -> list[str]:
        """NAME of each set of inputs."""
        return sorted(path.name.removesuffix("_clip.wav") for path in self.path.glob("*_clip.wav"))

    def runs(self, file: str) -> list[str]:
        """Returns the names of the runs or cases in `file`: the part of the keys before the slash."""
        return sorted({key.split("/")[0] for key in self.keys(file) if "/" in key})

    def frames(self, name: str) -> list[Image]:
        """Returns the source frames in order. Raises InvalidInput."""
        images = [cv2.imread(str(path)) for path in sorted((self.path / f"{name}_frames").glob("*.png"))]
        if not images or any(image is None for image in images):
            raise InvalidInput(
                f"{self.path / f'{name}_frames'} has no readable frames", "Copy the folder of vectors again"
            )
        return [np.asarray(image, np.uint8) for image in images]

    def frame_numbers(self, file: str, key: str) -> list[int]:
        """Returns the video frames of an array, from a description such as "... [0, 6, 52]"; [0] without numbers."""
        listed = re.search(r"\[([\d, ]+)\]", self.descriptions[(file, key)])
        return [int(number) for number in listed[1].split(",")] if listed else [0]


def version_of(run: str) -> str:
    """Returns the MuseTalk version of a run: v15 or v1."""
    return "v15" if "_v15" in run else "v1"


def mode_of(run: str) -> str:
    """Returns the parsing mode of a run: jaw or raw. v1 has only "raw"."""
    return "raw" if "_raw" in run or version_of(run) == "v1" else "jaw"


def fps_of(run: str) -> float:
    """Returns the frame rate of a run, 25 unless the name states another."""
    stated = re.search(r"_fps([\d.]+)", run)
    return float(stated[1]) if stated else 25.0
