"""Opens a face detector by name. checkpoints/optional_models.py lists the requirements of each."""

from __future__ import annotations

from pathlib import Path

from warmtalk.core.ports import FaceDetector
from warmtalk.models.checkpoints import optional_models
from warmtalk.models.faces.face_finder import FaceFinder


def resolve_name(name: str, models_dir: Path) -> str:
    """Returns the detector's name; for "auto", the best detector that is installed. Raises NotReady, InvalidInput."""
    return optional_models.select(name, optional_models.DETECTORS, models_dir, "prep.detector").name


def open_detector(name: str, finder: FaceFinder, models_dir: Path, device: str) -> FaceDetector:
    """Opens the detector from local files only; "mesh" returns the `finder` itself.

    Raises NotReady for a missing library or file, Damaged for a file of another network, InvalidInput for the name.
    """
    model = optional_models.select(name, optional_models.DETECTORS, models_dir, "prep.detector")
    if model is optional_models.DWPOSE:
        from warmtalk.models.faces.dwpose import DwposeDetector

        (path,) = optional_models.require(model, models_dir)
        return DwposeDetector(path, device)
    if model is optional_models.FACE_ALIGNMENT:
        from warmtalk.models.faces.alignment import AlignmentDetector

        s3fd, fan = optional_models.require(model, models_dir)
        return AlignmentDetector(s3fd, fan, device)
    return finder
