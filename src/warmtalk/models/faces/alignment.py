"""Face detector of the library face-alignment: S3FD finds the faces, 2DFAN4 places the 68 points. Local files only."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from warmtalk.core.errors import Damaged
from warmtalk.core.ports import DetectedFace
from warmtalk.core.types import Box, Image
from warmtalk.models.device import pick_device

SEARCH_SIDE = 640
"""Pixels. S3FD searches larger images at this reduced size: S3FD finds faces from 10 pixels on, and its time and memory
grow with the image. The points are placed on the full image."""


class AlignmentDetector:
    """A core.ports.FaceDetector."""

    name = "face-alignment"

    def __init__(self, s3fd: Path, fan: Path, device: str = "auto") -> None:
        """`s3fd` is s3fd-619a316812.pth; `fan` is 2DFAN4-cd938726ad.zip or 2DFAN4-11f355bf06.pth.tar.

        Raises NotReady for a missing GPU, Damaged for other files.
        """
        from face_alignment import FaceAlignment, LandmarksType

        class LocalFaceAlignment(FaceAlignment):  # type: ignore[misc]
            """Loads the local file; the library would download its own."""

            def _load_native(self, name: str, size: int, device: str, dtype: torch.dtype) -> Any:
                return _load_fan(fan, size).to(device, dtype=dtype).eval()

        torch_device = pick_device(device)
        try:
            self._library = LocalFaceAlignment(
                LandmarksType.TWO_D,
                device=str(torch_device),
                face_detector_kwargs={"path_to_detector": str(s3fd)},
                compile=False,
            )
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise Damaged(
                f"{s3fd.name} or {fan.name} in {s3fd.parent} cannot be opened: {reason}",
                "Delete them, then run: warmtalk weights fetch face-alignment",
            ) from error

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """See core.ports.FaceDetector; the hints are not needed."""
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        scale = min(1.0, SEARCH_SIDE / max(rgb.shape[:2]))
        small = rgb if scale == 1 else cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        detections = sorted(self._library.face_detector.detect_from_image(small), key=lambda box: -box[4])
        if not detections:
            return []
        boxes = [np.array([*box[:4] / scale, box[4]]) for box in detections]
        points = self._library.get_landmarks_from_image(rgb, detected_faces=boxes)
        return [
            DetectedFace(float(np.clip(box[4], 0, 1)), np.asarray(one, np.float32))
            for box, one in zip(boxes, points, strict=True)
        ]


def _load_fan(path: Path, size: int) -> Any:
    """Returns the network of a file, which is either a traced network or named tensors."""
    if _is_traced(path):
        return torch.jit.load(str(path), map_location="cpu")
    from face_alignment.models import FAN

    net = FAN(size)
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net


def _is_traced(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
