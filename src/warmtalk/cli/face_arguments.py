"""Options --face and --at: the selection of one face in a source with several people."""

from __future__ import annotations

import argparse


def add_face_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `face` (int, 0 by default) and `at` (a point (x, y), or None)."""
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument(
        "--face", type=int, default=0, metavar="N", help="with several people, the Nth from the left"
    )
    selection.add_argument(
        "--at", type=_point, metavar="X,Y", help="or the person at this position, in pixels of the source"
    )


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = text.split(",")
        return int(x), int(y)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a position; write two whole numbers, for example 320,180"
        ) from None
