"""What is asked of a build: the source and every parameter, and the note that tells two orders apart."""

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

PIPELINE_VERSION = 4
"""Raised when the same source and parameters give another bundle than before: unfinished builds then start anew."""


@dataclass(frozen=True, slots=True)
class BuildParams:
    """How to build."""

    bbox_shift: int | None = None
    """Pixels; None: chosen by shift.choose_shift."""
    extra_margin: int | None = None
    """Pixels; None: chosen by shift.choose_margin."""
    fps: Fraction = Fraction(25)
    still_seconds: float = 4.0
    detector: str = "mesh"
    """One of models.detectors.DETECTORS: not "auto", so that the same parameters give the same avatar everywhere."""
    parsing: ParserOptions = field(default_factory=ParserOptions)
    """Not "auto" either."""
    steadiness: SmoothingParams = field(default_factory=SmoothingParams)
    face: int = 0
    """Number of the person from the left; 0: the largest steady one."""
    at: tuple[int, int] | None = None
    """A place in that person's face, pixels of the source; stands before `face`."""

    def record(self) -> dict[str, Any]:
        """As kept in avatar.json. Two builds of one source with equal records are the same avatar."""
        return {
            "bbox_shift": self.bbox_shift,
            "extra_margin": self.extra_margin,
            "fps": str(self.fps),
            "still_seconds": self.still_seconds,
            "steadiness": asdict(self.steadiness),
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
        """Also an older version's; its defaults, a shift of 0 and 10 pixels, are what automatic ones took over from.

        Raises KeyError, ValueError or TypeError for what is no record.
        """
        now = cls().record() | dict(record)
        shift, margin, at = record["bbox_shift"], record["extra_margin"], now["at"]
        if "face" not in record and (shift, margin) == (0, 10):
            shift = margin = None
        return cls(
            None if shift is None else int(shift),
            None if margin is None else int(margin),
            Fraction(record["fps"]),
            float(record["still_seconds"]),
            str(now["detector"]),
            ParserOptions(
                str(now["parsing"]),
                str(now["parsing_mode"]),
                (int(now["cheek_width_left"]), int(now["cheek_width_right"])),
            ),
            SmoothingParams(**now["steadiness"]),
            int(now["face"]),
            at and (int(at[0]), int(at[1])),
        )

    @property
    def wanted(self) -> FrameTableParams:
        return FrameTableParams(self.fps, self.bbox_shift, self.extra_margin, FaceChoice(self.face, self.at))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One avatar to build."""

    avatar_id: str
    source: Path
    source_name: str
    """For people and messages; never a path."""
    source_sha256: str
    params: BuildParams
    left_open: frozenset[str] = frozenset()
    """Names in params.record() that the configuration says "auto" to: an avatar made with another choice is as welcome,
    unless a new one is asked for."""
    renderers: tuple[str, ...] = ("mesh",)
    """Those that it is prepared for here."""


def build_manifest(order: BuildRequest) -> dict[str, Any]:
    """What is built, from what and how: equal notes, equal bundles. Kept beside an unfinished build."""
    return {
        "recipe": PIPELINE_VERSION,
        "source_name": order.source_name,
        "source_sha256": order.source_sha256,
        "params": order.params.record(),
    }
