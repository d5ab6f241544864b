"""Face parsers (core.ports.FaceParser), which compute a row's blend mask: options, selection and loading."""

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
    """A parser and its options, as in the reference program."""

    name: str = "mesh"
    """mesh or bisenet."""
    mode: str = "jaw"
    """jaw, neck or raw; the mesh supports jaw only."""
    cheeks: tuple[int, int] = (90, 90)
    """left_cheek_width and right_cheek_width of mode jaw, in pixels of a crop that is 512 pixels wide."""


class MeshParser:
    """Parser that uses the face mesh alone, without a network and without the image."""

    name = "mesh"

    def mask(self, bundle: Bundle, row: int) -> Mask:
        """See core.ports.FaceParser."""
        return mesh_mask(bundle.landmarks(row), bundle.paste_box(row), bundle.crop_box(row))


def resolve_name(name: str, models_dir: Path) -> str:
    """Returns the parser's name; for "auto", the best parser that is installed. Raises NotReady, InvalidInput."""
    return optional_models.select(name, optional_models.PARSERS, models_dir, "prep.parsing").name


def open_parser(options: ParserOptions, models_dir: Path, device: str) -> FaceParser:
    """Opens the parser from local files only.

    Raises NotReady for a missing library or file, Damaged for a file of another network, InvalidInput for the name.
    """
    model = optional_models.select(options.name, optional_models.PARSERS, models_dir, "prep.parsing")
    if model is optional_models.BISENET:
        from warmtalk.models.faces.bisenet import BisenetParser

        (path,) = optional_models.require(model, models_dir)
        return BisenetParser(path, device, options.mode, options.cheeks)
    return MeshParser()
