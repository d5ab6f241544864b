"""python -m warmtalk.services.gateway [--config FILE]"""

from __future__ import annotations

import sys

from warmtalk.rpc.service_main import main
from warmtalk.services.gateway.wiring import run

if __name__ == "__main__":
    sys.exit(main("gateway", __doc__ or "", run))
