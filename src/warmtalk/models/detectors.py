"""Which face detectors there are, which of them are ready here, and which is the best."""

from __future__ import annotations

from pathlib import Path

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import FaceDetector
from warmtalk.models.face import FaceFinder

DETECTORS = ("mesh",)
"""The best first."""


def choose(wanted: str, models_dir: Path) -> str:
    """The name of the detector that `wanted` (one of DETECTORS, or "auto") stands for here.

    Raises NotReady when it cannot work, with what to do, InvalidInput when there is none of that name.
    """
    if wanted not in ("auto", *DETECTORS):
        raise InvalidInput(
            f"there is no detector {wanted!r}", f"Use auto, {', '.join(DETECTORS)}", field="prep.detector"
        )
    return "mesh"


def open_detector(name: str, finder: FaceFinder, models_dir: Path, device: str) -> FaceDetector:
    """`finder` is the mesh that is there anyway."""
    return finder
