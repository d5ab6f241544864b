"""warmtalk avatar preview: renders one frame with several values of bbox_shift, side by side."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli.face_arguments import add_face_arguments
from warmtalk.config import Config

_EXAMPLES = """\
examples:
  warmtalk avatar preview anna.mp4                                the automatic shift and others of the range
  warmtalk avatar preview anna.mp4 --shifts=-9,-6,-3,0 --out anna.png
"""


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the action `preview` of the command `avatar`."""
    parser = actions.add_parser(
        "preview",
        help="render the first usable frame of a source with several values of bbox_shift, side by side",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="video or photo")
    parser.add_argument(
        "--shifts", type=_parse_shifts, metavar="PX,PX,...", help="for example --shifts=-9,0 (default: the range)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="FILE", help="PNG (default: %(default)s)"
    )
    add_face_arguments(parser)
    parser.set_defaults(run=_preview)


def _parse_shifts(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of shifts; write whole numbers, for example -9,-3,0"
        ) from None


async def _preview(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.cli.preview_sheet import PreviewRequest, write_preview  # imports OpenCV, renderers

    request = PreviewRequest(args.source, args.out, args.shifts, args.face, args.at)
    advised = await asyncio.to_thread(write_preview, request, config)
    print(f"automatic: bbox_shift {advised.used}; adjustable range {advised.low} to {advised.high}")
    print(args.out)
    return 0
