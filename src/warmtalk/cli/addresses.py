"""Environment variables that tell the services of one machine the addresses of each other."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

from warmtalk.config import Config


def peer_environment(config: Config) -> dict[str, str]:
    """Returns variables for clients of a service whose `listen` address was changed.

    A client that still has the default address, where no service listens any more, gets the new address. A client
    address that was configured explicitly, for example an infer service on another machine, stays.
    """
    default_config = Config()
    environ = {}
    for client, section in (("session", "infer"), ("gateway", "prep"), ("gateway", "infer"), ("gateway", "session")):
        listen, default = (getattr(one, section).listen for one in (config, default_config))
        if getattr(getattr(config, client), section) == default != listen:
            environ[f"WARMTALK_{client}_{section}".upper()] = listen
    return environ


def isolated_config(config: Config, data_dir: Path) -> tuple[Config, dict[str, str]]:
    """Returns `config` with free ports and `data_dir`, and the variables with the same values for the children."""
    prep, infer, session, gateway = (f"127.0.0.1:{port}" for port in _free_ports(4))
    changed = dataclasses.replace(
        config,
        data_dir=data_dir,
        prep=dataclasses.replace(config.prep, listen=prep),
        infer=dataclasses.replace(config.infer, listen=infer),
        session=dataclasses.replace(config.session, listen=session, infer=infer),
        gateway=dataclasses.replace(config.gateway, listen=gateway, prep=prep, infer=infer, session=session),
    )
    environ = {
        "WARMTALK_DATA_DIR": str(changed.data_dir),
        "WARMTALK_PREP_LISTEN": prep,
        "WARMTALK_INFER_LISTEN": infer,
        "WARMTALK_SESSION_LISTEN": session,
        "WARMTALK_SESSION_INFER": infer,
        "WARMTALK_GATEWAY_LISTEN": gateway,
        "WARMTALK_GATEWAY_PREP": prep,
        "WARMTALK_GATEWAY_INFER": infer,
        "WARMTALK_GATEWAY_SESSION": session,
    }
    return changed, environ


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
