"""python -m services.prep [--config FILE]"""

from __future__ import annotations

import sys

from services.prep.wiring import run
from warmtalk.rpc.program import main

if __name__ == "__main__":
    sys.exit(main("prep", __doc__ or "", run))
