"""Verbs that work only in an environment with torch."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.util import find_spec

from warmtalk.config import Config
from warmtalk.core.errors import NotReady
from warmtalk.models.checkpoints.weights import LIBRARIES

Verb = Callable[[argparse.Namespace, Config], Awaitable[int]]


def requires_torch(verb: Verb) -> Verb:
    """Raises NotReady with what to run, where a library of MuseTalk's networks is not installed."""
    return _needs(verb, *LIBRARIES)


def requires_hub(verb: Verb) -> Verb:
    return _needs(verb, "huggingface_hub")


def _needs(verb: Verb, *modules: str) -> Verb:
    @wraps(verb)
    async def checked(args: argparse.Namespace, config: Config) -> int:
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            raise NotReady(
                f"this needs {' and '.join(missing)}, which this environment does not have",
                "Run: make venv-streaming, then .venv-streaming/bin/warmtalk with the same arguments",
            )
        return await verb(args, config)

    return checked
