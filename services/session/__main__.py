"""python -m warmtalk.services.session [--config FILE]"""

from __future__ import annotations

import sys

from warmtalk.rpc.service_main import main
from warmtalk.services.session.wiring import run

if __name__ == "__main__":
    sys.exit(main("session", __doc__ or "", run))
