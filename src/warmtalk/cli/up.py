"""warmtalk up: starts all services on this machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from warmtalk.cli.addresses import peer_environment
from warmtalk.cli.supervisor import Supervisor, service_specs
from warmtalk.config import Config

_EXAMPLES = """\
examples:
  warmtalk up                                              then open http://127.0.0.1:8000/
  warmtalk --config warmtalk.yaml up                       docs/configuration.md lists every key
  WARMTALK_GATEWAY_LISTEN=127.0.0.1:8001 warmtalk up       serve HTTP on another port
"""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `up`."""
    up = commands.add_parser("up", help="start all services on this machine; Ctrl-C stops them", epilog=_EXAMPLES)
    up.set_defaults(run=_up)


async def _up(args: argparse.Namespace, config: Config) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    supervisor = Supervisor(config, config_path=args.config, environ=peer_environment(config))
    starting = asyncio.create_task(supervisor.__aenter__())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 130
    await starting
    try:
        _print_ready(config)
        ended = asyncio.create_task(supervisor.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            print(f"warmtalk: the {ended.result()} service ended; see the last log lines above", file=sys.stderr)
            return 1
        ended.cancel()
        print("stopping", file=sys.stderr)
        return 0
    finally:
        await supervisor.__aexit__()


def _print_ready(config: Config) -> None:
    for service in service_specs(config):
        print(f"{service.name:8} {service.address}")
    print(f"data     {config.data_dir.resolve()}")
    print(f"ready. Talk at http://{config.gateway.listen}/ or, in another terminal: warmtalk speak --help", flush=True)
