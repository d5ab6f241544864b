"""Health check of a container: python -m warmtalk.rpc.healthcheck ADDRESS SERVICE; exit status 0 for SERVING."""

import asyncio
import sys

from warmtalk.core.errors import Unreachable
from warmtalk.rpc.client import wait_ready

if __name__ == "__main__":
    try:
        asyncio.run(wait_ready(sys.argv[1], sys.argv[2], 3.0))
    except Unreachable as error:
        sys.exit(str(error))
