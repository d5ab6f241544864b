"""python -m services.gateway [--config FILE]"""

from __future__ import annotations

import sys

from services.gateway.wiring import run
from warmtalk.rpc.program import main

if __name__ == "__main__":
    sys.exit(main("gateway", __doc__ or "", run))
