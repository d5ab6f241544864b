"""Networks that look at the source, opened when the first avatar needs them and kept for the next."""

from __future__ import annotations

from pathlib import Path

from warmtalk.avatar.detect.face_detection import FaceDetectorPair
from warmtalk.core.ports import FaceParser
from warmtalk.models.faces.detectors import open_detector
from warmtalk.models.faces.mesh import FaceFinder
from warmtalk.models.faces.parsers import ParserOptions, open_parser


class ModelCache:
    """One detector and one parser at a time: each may hold hundreds of megabytes. One thread only."""

    def __init__(self, models_dir: Path = Path("models"), device: str = "auto") -> None:
        """`device` is auto (a GPU where there is one), cpu, cuda or cuda:0."""
        self._models_dir = models_dir
        self._device = device
        self._finder: FaceFinder | None = None
        self._spotter: tuple[str, FaceDetectorPair] | None = None
        self._parser: tuple[ParserOptions, FaceParser] | None = None

    def spotter(self, detector: str) -> FaceDetectorPair:
        """`detector` is one of models.detectors.DETECTORS. Raises NotReady or Damaged: its library or its weights."""
        if self._spotter is None or self._spotter[0] != detector:
            self._spotter = None
            self._finder = self._finder or FaceFinder()
            opened = open_detector(detector, self._finder, self._models_dir, self._device)
            self._spotter = (detector, FaceDetectorPair(self._finder, opened))
        return self._spotter[1]

    def parser(self, options: ParserOptions) -> FaceParser:
        """Raises NotReady or Damaged: its library or its weights."""
        if self._parser is None or self._parser[0] != options:
            self._parser = None
            self._parser = (options, open_parser(options, self._models_dir, self._device))
        return self._parser[1]
