"""Command-line parser: all commands with their options and examples."""

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
  warmtalk doctor                                       show installed and missing parts
  warmtalk up                                           start all services on this machine
  warmtalk avatar create anna anna.mp4                  build an avatar from a video or a photo
  warmtalk speak --session s1 --avatar anna --text "Hello there. How are you?"
  warmtalk speak --session s1 --audio answer.mp3        add a clip to the conversation
  warmtalk export --session s1 --out talk.mp4           write the conversation with AAC audio
  warmtalk reset --session s1                           start the next conversation
"""


class CommandParser(argparse.ArgumentParser):
    """Argument parser that suggests the most similar choice in errors and keeps the line breaks of epilogs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """Exits with status 2, the error and the command that shows the help."""
        known = re.findall(r"[\w-]+", message.partition("(choose from ")[2])
        invalid = re.search(r"invalid choice: '([^']*)'", message)
        similar = difflib.get_close_matches(invalid[1], known, 1) if invalid else []
        if similar:
            message = f"{message.partition(' (choose from ')[0]}. Did you mean {similar[0]}?"
        self.exit(2, f"{self.prog}: {message}\nSee: {self.prog} --help\n")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses `argv` (None: sys.argv). Exits with status 2 and an error, or with the help when `argv` is empty."""
    parser = _parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        parser.exit(2)
    return parser.parse_args(argv)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="warmtalk",
        description="A talking avatar: text or audio in, one continuous conversation video out.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"warmtalk {__version__}")
    parser.add_argument("--config", type=Path, help="YAML file, see docs/configuration.md (default: $WARMTALK_CONFIG)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (up, avatar, session, export, render, enhance, weights, verify_golden, doctor, demo):
        module.add_arguments(commands)
    return parser
