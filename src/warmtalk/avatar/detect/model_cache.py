"""Cache of the networks that analyse a source: loaded for the first avatar, kept for the next."""

from __future__ import annotations

from pathlib import Path

from warmtalk.avatar.detect.face_detection import FaceDetectorPair
from warmtalk.core.ports import FaceParser
from warmtalk.models.faces.detectors import open_detector
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.faces.parsers import ParserOptions, open_parser


class ModelCache:
    """Holds one detector and one parser at a time: each may take hundreds of megabytes. Use from one thread only."""

    def __init__(self, models_dir: Path = Path("models"), device: str = "auto") -> None:
        """`device` is auto (a GPU where one is available), cpu, cuda or cuda:0."""
        self._models_dir = models_dir
        self._device = device
        self._finder: FaceFinder | None = None
        self._detectors: tuple[str, FaceDetectorPair] | None = None
        self._parser: tuple[ParserOptions, FaceParser] | None = None

    def face_detectors(self, name: str) -> FaceDetectorPair:
        """Returns the mesh finder together with the detector `name`, one of models.checkpoints' detectors.

        Raises NotReady when a library or the weights are missing, Damaged for invalid weights.
        """
        if self._detectors is None or self._detectors[0] != name:
            self._detectors = None
            self._finder = self._finder or FaceFinder()
            opened = open_detector(name, self._finder, self._models_dir, self._device)
            self._detectors = (name, FaceDetectorPair(self._finder, opened))
        return self._detectors[1]

    def parser(self, options: ParserOptions) -> FaceParser:
        """Returns the face parser for `options`.

        Raises NotReady when a library or the weights are missing, Damaged for invalid weights.
        """
        if self._parser is None or self._parser[0] != options:
            self._parser = None
            self._parser = (options, open_parser(options, self._models_dir, self._device))
        return self._parser[1]
