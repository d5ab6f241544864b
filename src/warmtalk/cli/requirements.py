"""Decorators for commands that need optional packages, such as torch."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.util import find_spec

from warmtalk.config import Config
from warmtalk.core.errors import NotReady
from warmtalk.models.checkpoints.weights import LIBRARIES

Command = Callable[[argparse.Namespace, Config], Awaitable[int]]


def requires_torch(command: Command) -> Command:
    """Raises NotReady with installation instructions when a library of MuseTalk's networks is not installed."""
    return _requires(command, *LIBRARIES)


def requires_hub(command: Command) -> Command:
    """Raises NotReady with installation instructions when huggingface_hub is not installed."""
    return _requires(command, "huggingface_hub")


def _requires(command: Command, *modules: str) -> Command:
    @wraps(command)
    async def checked(args: argparse.Namespace, config: Config) -> int:
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            raise NotReady(
                f"this command needs {' and '.join(missing)}; not installed in this environment",
                "Run: pip install 'warmtalk[musetalk]'; in a checkout: make venv-streaming, then "
                ".venv-streaming/bin/warmtalk with the same arguments",
            )
        return await command(args, config)

    return checked
