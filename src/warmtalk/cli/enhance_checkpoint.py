"""Checkpoint of warmtalk enhance: request, finished segments and state of the restoration on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from warmtalk.core.bundle_files import write_json
from warmtalk.core.face_restoration import RestoredFace
from warmtalk.core.types import Box


@dataclass(frozen=True, slots=True)
class EnhanceRequest:
    """Input, output and options of one run."""

    source: Path
    out: Path
    area: str = "face"
    """Key of core.face_restoration.AREAS."""
    strength: float = 0.8
    """0 (source) to 1 (restored face)."""


class EnhanceCheckpoint:
    """Finished segments of a request and the state before the next segment, in the folder OUT.parts."""

    def __init__(self, request: EnhanceRequest, version: int) -> None:
        """Loads the checkpoint of an earlier run of the same request and version; deletes any other checkpoint."""
        self.folder = request.out.with_name(f"{request.out.name}.parts")
        self.segments = self.faces = 0
        self.previous_faces: list[RestoredFace] = []
        self.near: Box | None = None
        source = request.source.stat()
        key = [str(request.source.resolve()), source.st_size, source.st_mtime_ns]
        key += [request.area, request.strength, version]
        try:
            if json.loads((self.folder / "order.json").read_text("utf-8")) == key:
                self._load()
                return
        except (OSError, ValueError, KeyError, SafetensorError):
            pass
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_json(self.folder / "order.json", key)

    def segment_path(self, number: int) -> Path:
        """Returns the video file of a segment; numbers start at 0."""
        return self.folder / f"{number:05d}.mp4"

    def add(self, faces: int, near: Box | None, previous_faces: list[RestoredFace]) -> None:
        """Stores that the next segment is finished, with the number of frames with a face and the new state."""
        self.segments += 1
        self.faces += faces
        self.near, self.previous_faces = near, previous_faces
        arrays = {"counts": np.array([self.segments, self.faces, len(previous_faces)], np.int64)}
        if near is not None:
            arrays["near"] = np.array(near.as_tuple(), np.int64)
        for number, face in enumerate(previous_faces):
            arrays |= {f"{number}.{one.name}": getattr(face, one.name) for one in fields(RestoredFace)}
        temporary = self.folder / "state.tmp"
        save_file(arrays, temporary)
        temporary.replace(self.folder / "state.safetensors")

    def _load(self) -> None:
        path = self.folder / "state.safetensors"
        arrays: dict[str, Any] = load_file(path) if path.is_file() else {"counts": np.zeros(3, np.int64)}
        self.segments, self.faces, count = arrays.pop("counts").tolist()
        near = arrays.pop("near", None)
        self.near = None if near is None else Box(*near.tolist())
        names = [one.name for one in fields(RestoredFace)]
        self.previous_faces = [RestoredFace(**{name: arrays[f"{i}.{name}"] for name in names}) for i in range(count)]
