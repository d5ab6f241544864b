"""What cuts a row's blend mask, behind the port core.ports.FaceParser: which there are, and which are ready here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmtalk.core.bundle import Bundle
from warmtalk.core.errors import InvalidInput
from warmtalk.core.masks import mesh_mask
from warmtalk.core.ports import FaceParser
from warmtalk.core.types import Mask

PARSERS = ("mesh",)
"""The best first."""
MODES = ("jaw", "neck", "raw")


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """Which parser, and the reference program's options of it."""

    name: str = "mesh"
    """One of PARSERS."""
    mode: str = "jaw"
    """One of MODES; the mesh knows jaw alone."""
    cheeks: tuple[int, int] = (90, 90)
    """left_cheek_width and right_cheek_width: of mode jaw, in pixels of a crop that is 512 wide."""


class MeshParser:
    """By the face mesh: needs no network and does not look at the picture."""

    name = "mesh"

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """See core.ports.FaceParser."""
        return mesh_mask(bundle.landmarks(row), bundle.place(row), bundle.crop_box(row))


def choose(wanted: str, models_dir: Path) -> str:
    """The name of the parser that `wanted` (one of PARSERS, or "auto") stands for here.

    Raises NotReady when it cannot work, with what to do, InvalidInput when there is none of that name.
    """
    if wanted not in ("auto", *PARSERS):
        raise InvalidInput(f"there is no parser {wanted!r}", f"Use auto, {', '.join(PARSERS)}", field="prep.parsing")
    return "mesh"


def open_parser(options: ParserOptions, models_dir: Path, device: str) -> FaceParser:
    return MeshParser()
