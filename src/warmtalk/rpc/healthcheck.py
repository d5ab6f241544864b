"""python -m warmtalk.rpc.probe ADDRESS SERVICE: exit status 0 when it is SERVING, for container health checks."""

import asyncio
import sys

from warmtalk.core.errors import Unreachable
from warmtalk.rpc.client import wait_ready

if __name__ == "__main__":
    try:
        asyncio.run(wait_ready(sys.argv[1], sys.argv[2], 3.0))
    except Unreachable as error:
        sys.exit(str(error))
