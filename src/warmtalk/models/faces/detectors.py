"""Opens the face detector of a name. What each needs is in kits.py."""

from __future__ import annotations

from pathlib import Path

from warmtalk.core.ports import FaceDetector
from warmtalk.models.checkpoints import kits
from warmtalk.models.faces.mesh import FaceFinder


def choose(wanted: str, models_dir: Path) -> str:
    """The name of the detector that `wanted`, perhaps "auto", stands for here. Raises NotReady, InvalidInput."""
    return kits.choose(wanted, kits.DETECTORS, models_dir, "prep.detector").name


def open_detector(name: str, finder: FaceFinder, models_dir: Path, device: str) -> FaceDetector:
    """`finder` is the mesh, which is there anyway. Loads only local files.

    Raises NotReady when something is missing, Damaged when the file is not that network's, InvalidInput for the name.
    """
    kit = kits.choose(name, kits.DETECTORS, models_dir, "prep.detector")
    if kit is kits.DWPOSE:
        from warmtalk.models.faces.dwpose import DwposeDetector

        (path,) = kits.check(kit, models_dir)
        return DwposeDetector(path, device)
    if kit is kits.FACE_ALIGNMENT:
        from warmtalk.models.faces.alignment import AlignmentDetector

        s3fd, fan = kits.check(kit, models_dir)
        return AlignmentDetector(s3fd, fan, device)
    return finder
