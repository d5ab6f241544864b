"""Build request: the source and all parameters of one avatar, and the manifest that identifies a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from warmtalk.avatar.detect.person_tracking import FaceChoice
from warmtalk.avatar.track.frame_table import FrameTableParams
from warmtalk.avatar.track.smoothing import SmoothingParams
from warmtalk.models.faces.parsers import ParserOptions
from warmtalk.renderers.registry import EMBEDDED

PIPELINE_VERSION = 5
"""Incremented when the same source and parameters give a different bundle: unfinished builds then start again."""


@dataclass(frozen=True, slots=True)
class BuildParams:
    """Parameters of a build."""

    bbox_shift: int | None = None
    """Pixels; None: chosen by bbox_shift.choose_bbox_shift."""
    extra_margin: int | None = None
    """Pixels; None: chosen by bbox_shift.choose_extra_margin."""
    fps: Fraction = Fraction(25)
    still_seconds: float = 4.0
    """Length of the idle motion of a photo."""
    detector: str = "mesh"
    """Name of a face detector. Never "auto", so that the same parameters give the same avatar on every machine."""
    parsing: ParserOptions = field(default_factory=ParserOptions)
    """Face parser; its name is never "auto" either."""
    smoothing: SmoothingParams = field(default_factory=SmoothingParams)
    face: int = 0
    """Number of the person from the left; 0: the largest in pixels over time."""
    at: tuple[int, int] | None = None
    """A point inside the person's face, pixels of the source; takes precedence over `face`."""

    def record(self) -> dict[str, Any]:
        """Returns the parameters as stored in avatar.json. Equal records and sources give the same avatar."""
        return {
            "bbox_shift": self.bbox_shift,
            "extra_margin": self.extra_margin,
            "fps": str(self.fps),
            "still_seconds": self.still_seconds,
            "steadiness": asdict(self.smoothing),
            "detector": self.detector,
            "parsing": self.parsing.name,
            "parsing_mode": self.parsing.mode,
            "cheek_width_left": self.parsing.cheeks[0],
            "cheek_width_right": self.parsing.cheeks[1],
            "face": self.face,
            "at": self.at and list(self.at),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BuildParams:
        """Returns the parameters of a record, including the records of older versions.

        The defaults of older versions, a shift of 0 and a margin of 10 pixels, are read as automatic.
        Raises KeyError, ValueError or TypeError for an invalid record.
        """
        complete = cls().record() | dict(record)
        shift, margin, at = record["bbox_shift"], record["extra_margin"], complete["at"]
        if "face" not in record and (shift, margin) == (0, 10):
            shift = margin = None
        return cls(
            None if shift is None else int(shift),
            None if margin is None else int(margin),
            Fraction(record["fps"]),
            float(record["still_seconds"]),
            str(complete["detector"]),
            ParserOptions(
                str(complete["parsing"]),
                str(complete["parsing_mode"]),
                (int(complete["cheek_width_left"]), int(complete["cheek_width_right"])),
            ),
            SmoothingParams(**complete["steadiness"]),
            int(complete["face"]),
            at and (int(at[0]), int(at[1])),
        )

    @property
    def frame_table_params(self) -> FrameTableParams:
        """The parameters of build_frame_table."""
        return FrameTableParams(self.fps, self.bbox_shift, self.extra_margin, FaceChoice(self.face, self.at))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One avatar to build."""

    avatar_id: str
    source: Path
    source_name: str
    """Name for messages; never a path."""
    source_sha256: str
    params: BuildParams
    auto_params: frozenset[str] = frozenset()
    """Keys of params.record() that the configuration sets to "auto": an existing avatar with another choice matches,
    unless a new build is requested."""
    renderers: tuple[str, ...] = (EMBEDDED.name,)
    """Renderers that this service prepares avatars for."""


def build_manifest(request: BuildRequest) -> dict[str, Any]:
    """Returns the content of the manifest next to an unfinished build: equal manifests give equal bundles."""
    return {
        "recipe": PIPELINE_VERSION,
        "source_name": request.source_name,
        "source_sha256": request.source_sha256,
        "params": request.params.record(),
    }
