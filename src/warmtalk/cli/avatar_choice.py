"""--face and --at: whose face, when several people are seen."""

from __future__ import annotations

import argparse


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """`face` int, 0 by default, and `at` (x, y) or None."""
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--face", type=int, default=0, metavar="N", help="of several people, the Nth from the left")
    whose.add_argument("--at", type=_point, metavar="X,Y", help="or the one at this place, in pixels of the source")


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = text.split(",")
        return int(x), int(y)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no place; write two whole numbers, as 320,180") from None
