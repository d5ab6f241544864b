"""What cuts a row's blend mask, behind the port core.ports.FaceParser: which there are, and which are ready here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warmtalk.core.bundle import Bundle
from warmtalk.core.masks import mesh_mask
from warmtalk.core.ports import FaceParser
from warmtalk.core.types import Mask
from warmtalk.models.checkpoints import optional_models


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """Which parser, and the reference program's options of it."""

    name: str = "mesh"
    """mesh or bisenet."""
    mode: str = "jaw"
    """jaw, neck or raw; the mesh knows jaw alone."""
    cheeks: tuple[int, int] = (90, 90)
    """left_cheek_width and right_cheek_width: of mode jaw, in pixels of a crop that is 512 wide."""


class MeshParser:
    """By the face mesh: needs no network and does not look at the picture."""

    name = "mesh"

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """See core.ports.FaceParser."""
        return mesh_mask(bundle.landmarks(row), bundle.paste_box(row), bundle.crop_box(row))


def choose(wanted: str, models_dir: Path) -> str:
    """The name of the parser that `wanted`, perhaps "auto", stands for here. Raises NotReady, InvalidInput."""
    return optional_models.choose(wanted, optional_models.PARSERS, models_dir, "prep.parsing").name


def open_parser(options: ParserOptions, models_dir: Path, device: str) -> FaceParser:
    """Loads only local files.

    Raises NotReady when something is missing, Damaged when the file is not that network's, InvalidInput for the name.
    """
    kit = optional_models.choose(options.name, optional_models.PARSERS, models_dir, "prep.parsing")
    if kit is optional_models.BISENET:
        from warmtalk.models.faces.bisenet import BisenetParser

        (path,) = optional_models.check(kit, models_dir)
        return BisenetParser(path, device, options.mode, options.cheeks)
    return MeshParser()
