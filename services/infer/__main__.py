"""python -m services.infer [--config FILE]"""

from __future__ import annotations

import sys

from services.infer.wiring import run
from warmtalk.rpc.program import main

if __name__ == "__main__":
    sys.exit(main("infer", __doc__ or "", run))
