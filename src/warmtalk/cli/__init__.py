"""warmtalk: the command line. One file a verb; `arguments` reads what was typed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 refused (the message says why), 130 stopped by Ctrl-C."""
    try:
        from warmtalk.cli.arguments import parsed  # here: Ctrl-C may come while all this is loaded

        return _run(parsed(argv))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(args: argparse.Namespace) -> int:
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
