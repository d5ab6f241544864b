"""What the command line understands, and what it says when it does not."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from warmtalk import __version__
from warmtalk.cli import avatar, demo, doctor, enhance, export, render, session, up, verify_golden, weights

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


class Parser(argparse.ArgumentParser):
    """Its errors name the nearest word that is known, and where help is. Its epilogs keep their lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        known = re.findall(r"[\w-]+", message.partition("(choose from ")[2])
        wrong = re.search(r"invalid choice: '([^']*)'", message)
        near = difflib.get_close_matches(wrong[1], known, 1) if wrong else []
        if near:
            message = f"{message.partition(' (choose from ')[0]}. Did you mean {near[0]}?"
        self.exit(2, f"{self.prog}: {message}\nSee: {self.prog} --help\n")


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """Exits with 2 and a line that says why when it understands nothing; with no words at all, shows the help."""
    parser = _parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        parser.exit(2)
    return parser.parse_args(argv)


def _parser() -> Parser:
    parser = Parser(
        prog="warmtalk",
        description="A talking avatar: text or sound in, one continuous conversation video out.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"warmtalk {__version__}")
    parser.add_argument("--config", type=Path, help="YAML file, see docs/configuration.md (default: $WARMTALK_CONFIG)")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (up, avatar, session, export, render, enhance, weights, verify_golden, doctor, demo):
        module.add_arguments(verbs)
    return parser
