"""The command line of warmtalk: one module per command; `arguments` parses the command line.

This module imports only the standard library before `main` handles Ctrl-C; all other imports take about 0.3 s.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 refused (the message gives the reason), 130 stopped by Ctrl-C."""
    try:
        with _ExitOnInterrupt():
            from warmtalk.cli.arguments import parse_arguments

            args = parse_arguments(argv)
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _ExitOnInterrupt:
    """Ends the process at once on Ctrl-C. An import that is interrupted by an exception may print a traceback."""

    def __enter__(self) -> None:
        self._handler = signal.getsignal(signal.SIGINT)
        if self._handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._handler)


def _run(args: argparse.Namespace) -> int:
    import asyncio
    from pathlib import Path

    from warmtalk import config_loader
    from warmtalk.core.errors import WarmtalkError

    try:
        path = args.config or (Path(os.environ["WARMTALK_CONFIG"]) if os.environ.get("WARMTALK_CONFIG") else None)
        return int(asyncio.run(args.run(args, config_loader.load(path))) or 0)
    except BrokenPipeError:
        raise
    except WarmtalkError as error:
        print(f"warmtalk: {error}", file=sys.stderr)
    except OSError as error:
        print(f"warmtalk: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
    return 1
