"""python -m warmtalk.services.infer [--config FILE]"""

from __future__ import annotations

import sys

from warmtalk.rpc.service_main import main
from warmtalk.services.infer.wiring import run

if __name__ == "__main__":
    sys.exit(main("infer", __doc__ or "", run))
