"""Opens the face detector of a name. What each needs is in kits.py."""

from __future__ import annotations

from pathlib import Path

from warmtalk.core.ports import FaceDetector
from warmtalk.models.checkpoints import optional_models
from warmtalk.models.faces.face_finder import FaceFinder


def choose(wanted: str, models_dir: Path) -> str:
    """The name of the detector that `wanted`, perhaps "auto", stands for here. Raises NotReady, InvalidInput."""
    return optional_models.choose(wanted, optional_models.DETECTORS, models_dir, "prep.detector").name


def open_detector(name: str, finder: FaceFinder, models_dir: Path, device: str) -> FaceDetector:
    """`finder` is the mesh, which is there anyway. Loads only local files.

    Raises NotReady when something is missing, Damaged when the file is not that network's, InvalidInput for the name.
    """
    kit = optional_models.choose(name, optional_models.DETECTORS, models_dir, "prep.detector")
    if kit is optional_models.DWPOSE:
        from warmtalk.models.faces.dwpose import DwposeDetector

        (path,) = optional_models.check(kit, models_dir)
        return DwposeDetector(path, device)
    if kit is optional_models.FACE_ALIGNMENT:
        from warmtalk.models.faces.alignment import AlignmentDetector

        s3fd, fan = optional_models.check(kit, models_dir)
        return AlignmentDetector(s3fd, fan, device)
    return finder
