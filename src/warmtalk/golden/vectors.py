"""A folder of recorded arrays: manifest.json, *.npz, and the inputs that they were made of.

NAME_clip.wav, NAME_frames/    inputs            NAME_audio.npz       what becomes of the sound
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
    """Opens files when they are asked for, and remembers which arrays were."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput when there is no readable manifest."""
        self.path = path
        try:
            entries = json.loads((path / "manifest.json").read_text("utf-8"))["arrays"]
            self.about: dict[tuple[str, str], str] = {(e["file"], e["key"]): str(e.get("desc", "")) for e in entries}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{path} is no folder of golden vectors: manifest.json: {error}", "Check the path"
            ) from error
        self.used: set[tuple[str, str]] = set()
        self._open: dict[str, Any] = {}

    def keys(self, file: str, prefix: str = "") -> list[str]:
        return [key for name, key in self.about if name == file and key.startswith(prefix)]

    def get(self, file: str, key: str) -> Array:
        """Raises InvalidInput when the file or the array is missing or broken."""
        self.used.add((file, key))
        try:
            if file not in self._open:
                self._open[file] = np.load(self.path / file)
            return cast(Array, self._open[file][key])
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInput(f"{self.path / file} has no readable array {key!r}: {error}", "Copy it again") from error

    def find(self, file: str, key: str) -> Array | None:
        return self.get(file, key) if (file, key) in self.about else None

    @cached_property
    def names(self) -> list[str]:
        """NAME of each set of inputs."""
        return sorted(path.name.removesuffix("_clip.wav") for path in self.path.glob("*_clip.wav"))

    def runs(self, file: str) -> list[str]:
        return sorted({key.split("/")[0] for key in self.keys(file) if "/" in key})

    def frames(self, name: str) -> list[Image]:
        """Source frames in order. Raises InvalidInput."""
        images = [cv2.imread(str(path)) for path in sorted((self.path / f"{name}_frames").glob("*.png"))]
        if not images or any(image is None for image in images):
            raise InvalidInput(f"{self.path / f'{name}_frames'} has no readable frames", "Copy it again")
        return [np.asarray(image, np.uint8) for image in images]

    def frame_numbers(self, file: str, key: str) -> list[int]:
        """The video frames that an array is of, from its description: "... [0, 6, 52]"."""
        found = re.search(r"\[([\d, ]+)\]", self.about[(file, key)])
        return [int(number) for number in found[1].split(",")] if found else [0]


def version_of(run: str) -> str:
    return "v15" if "_v15" in run else "v1"


def mode_of(run: str) -> str:
    """Parsing mode: v1 has only "raw"."""
    return "raw" if "_raw" in run or version_of(run) == "v1" else "jaw"


def fps_of(run: str) -> float:
    found = re.search(r"_fps([\d.]+)", run)
    return float(found[1]) if found else 25.0
