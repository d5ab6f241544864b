"""python -m warmtalk.cli"""

import sys

from warmtalk.cli import main

sys.exit(main())
