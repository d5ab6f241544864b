"""python -m warmtalk.services.prep [--config FILE]"""

from __future__ import annotations

import sys

from warmtalk.rpc.service_main import main
from warmtalk.services.prep.wiring import run

if __name__ == "__main__":
    sys.exit(main("prep", __doc__ or "", run))
