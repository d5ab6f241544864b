"""warmtalk enhance: sharpens the faces of a video (GFPGAN) and copies the audio."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from warmtalk.config import Config
from warmtalk.core.errors import NotReady
from warmtalk.models.checkpoints import optional_weights

AREAS = ("face", "mouth")
"""Keys of core.face_restoration.AREAS, without the import of OpenCV."""
_EXAMPLES = """\
examples:
  warmtalk enhance anna.mp4 anna-sharp.mp4              before building an avatar from the sharper video
  warmtalk enhance --only mouth talk.mp4 sharp.mp4      after rendering: a clip or an exported conversation

After Ctrl-C, the same command continues the work. The command needs torch, the library spandrel and the weights:
pip install 'warmtalk[enhance]' && pip install --no-deps spandrel==0.4.2, then warmtalk weights fetch gfpgan.
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `enhance`."""
    enhance = commands.add_parser(
        "enhance",
        help="sharpen the faces of a video (GFPGAN) and copy the audio",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enhance.add_argument("source", type=Path, metavar="IN", help="mp4, mov, webm, mkv, avi or mpg")
    enhance.add_argument("out", type=Path, metavar="OUT", help="H.264 in .mp4, .mov or .mkv, with the audio of IN")
    enhance.add_argument("--only", choices=AREAS, default="face", help="area to sharpen (default: face)")
    enhance.add_argument(
        "--strength", type=float, default=0.8, metavar="0..1", help="share of the restored face (default: 0.8)"
    )
    enhance.set_defaults(run=_enhance)


async def _enhance(args: argparse.Namespace, config: Config) -> int:
    from warmtalk.cli.enhance_checkpoint import EnhanceRequest  # imports numpy and OpenCV
    from warmtalk.cli.enhance_video import check_request, enhance_video

    request = EnhanceRequest(args.source, args.out, args.only, args.strength)
    check_request(request)
    if not (find_spec("torch") and find_spec("spandrel")):
        raise NotReady(
            "this command needs torch and the library spandrel; not installed in this environment",
            "Run: pip install 'warmtalk[enhance]' && pip install --no-deps spandrel==0.4.2; in a checkout: "
            "make venv-full, then .venv-full/bin/warmtalk with the same arguments",
        )
    weights = optional_weights.find(config.models_dir, optional_weights.GFPGAN)
    from warmtalk.models.faces.gfpgan import Gfpgan  # imports torch: takes seconds, and torch may not be installed

    frames, faces = await enhance_video(request, Gfpgan(weights, config.musetalk.device))
    print(f"{request.out}  ({frames} frames, {faces} with a face)")
    return 0
