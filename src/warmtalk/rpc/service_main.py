"""Entry point shared by the services: arguments, logging, event loop, exit status."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from warmtalk import config_loader
from warmtalk.config import Config
from warmtalk.core.errors import WarmtalkError


def main(name: str, usage: str, run: Callable[[Config], Coroutine[Any, Any, None]]) -> int:
    """Reads --config, sets up logging and runs the service until a signal. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m warmtalk.services.{name}", description=f"The {name} service. {usage}"
    )
    parser.add_argument("--config", type=Path, help="YAML file; see docs/configuration.md")
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when standard input ends: the parent process is gone",
    )
    args = parser.parse_args()
    if args.until_eof:
        threading.Thread(target=_stop_at_eof, name="until-eof", daemon=True).start()
    try:
        config = config_loader.load(args.config)
        set_up_logging(config.log_level, name)
        asyncio.run(run(config))
    except (WarmtalkError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - logging may not be set up yet
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _stop_at_eof() -> None:
    """Sends SIGTERM to this process at the end of standard input; a killed parent closes its end of the pipe."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def set_up_logging(level: str, name: str) -> None:
    """Logs to standard error, each line with the time and the service's name."""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s {name} %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
