"""warmtalk up: all services on this machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from warmtalk.cli.supervisor import Supervisor, found, programs
from warmtalk.config import Config

_EXAMPLES = """\
examples:
  warmtalk up                                              then http://127.0.0.1:8000/
  warmtalk --config warmtalk.yaml up                       docs/configuration.md lists every key
  WARMTALK_GATEWAY_LISTEN=127.0.0.1:8001 warmtalk up       elsewhere
"""


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = verbs.add_parser("up", help="start all services on this machine; Ctrl-C stops them", epilog=_EXAMPLES)
    up.set_defaults(run=_up)


async def _up(args: argparse.Namespace, config: Config) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(Supervisor(config, config_path=args.config, environ=found(config)).__aenter__())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 130
    stack = await starting
    try:
        _say_ready(config)
        dying = asyncio.create_task(stack.wait())
        await asyncio.wait({dying, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            print(f"warmtalk: the {dying.result()} service ended; its last lines above say why", file=sys.stderr)
            return 1
        dying.cancel()
        print("stopping", file=sys.stderr)
        return 0
    finally:
        await stack.__aexit__()


def _say_ready(config: Config) -> None:
    for program in programs(config):
        print(f"{program.name:8} {program.address}")
    print(f"data     {config.data_dir.resolve()}")
    print(f"ready. Talk at http://{config.gateway.listen}/ or, in another terminal: warmtalk speak --help", flush=True)
