"""python -m services.session [--config FILE]"""

from __future__ import annotations

import sys

from services.session.wiring import run
from warmtalk.rpc.program import main

if __name__ == "__main__":
    sys.exit(main("session", __doc__ or "", run))
