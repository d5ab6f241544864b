"""warmtalk: the command line. One file a verb; this one reads the arguments."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from warmtalk import __version__, config
from warmtalk.cli import avatar, demo, doctor, enhance, export, render, session, up, verify_golden, weights
from warmtalk.core.errors import WarmtalkError

_EXAMPLES = """\
examples:
  warmtalk doctor                                       what is installed, what is missing
  warmtalk up                                           start all services on this machine
  warmtalk avatar create anna anna.mp4                  make an avatar of a video or a photo
  warmtalk speak --session s1 --avatar anna --text "Hello there. How are you?"
  warmtalk speak --session s1 --audio answer.mp3        the conversation goes on
  warmtalk export --session s1 --out talk.mp4           for players that want AAC
  warmtalk reset --session s1                           the next conversation
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 refused (the message says why), 130 stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        path = args.config or (Path(os.environ["WARMTALK_CONFIG"]) if os.environ.get("WARMTALK_CONFIG") else None)
        result = asyncio.run(args.run(args, config.load(path)))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (WarmtalkError, OSError) as error:
        print(f"warmtalk: {error}", file=sys.stderr)
        return 1
    return int(result or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtalk",
        description="A talking avatar: text or sound in, one continuous conversation video out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"warmtalk {__version__}")
    parser.add_argument("--config", type=Path, help="YAML file, see docs/configuration.md (default: $WARMTALK_CONFIG)")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (up, avatar, session, export, render, enhance, weights, verify_golden, doctor, demo):
        module.add_arguments(verbs)
    return parser
