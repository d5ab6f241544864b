"""warmtalk render: renders a video offline in this process, with the same frames as the live path."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from warmtalk.cli import formatting
from warmtalk.config import Config

_EXAMPLES = """\
examples:
  warmtalk render --avatar anna --audio long.wav --out long.mp4
  warmtalk render --avatar anna --audio long.wav --out long.mp4 --renderer musetalk
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `render`."""
    offline = commands.add_parser(
        "render", help="render a video of an audio file, without the services", epilog=_EXAMPLES
    )
    offline.add_argument("--avatar", required=True, metavar="ID", help="an avatar in the avatars folder of data_dir")
    offline.add_argument("--audio", type=Path, required=True, metavar="FILE", help="wav, mp3, flac or ogg")
    offline.add_argument("--out", type=Path, required=True, metavar="FILE", help="MP4 with H.264 and FLAC")
    offline.add_argument(
        "--renderer", default="", help="default: infer.renderer, else any renderer for which the avatar was built"
    )
    offline.set_defaults(run=_render)


async def _render(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.cli.offline_render import render_file  # imports OpenCV, PyAV, renderers

    formatting.check_writable(args.out)
    await asyncio.to_thread(render_file, args.avatar, args.audio, args.out, args.renderer, config)
    print(args.out)
    return 0
