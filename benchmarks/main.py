"""python -m benchmarks.main [--short]: all figures of the embedded renderer as one card and one JSON line.

--short leaves out the slowest parts: the avatar from a video (benchmarks.prep) and steadiness (benchmarks.smoothing).
"""

from __future__ import annotations

import sys

from benchmarks import blend, card, edges, mesh, prep, smoothing, speak

_SHORT = (mesh.measure, blend.measure, edges.measure, speak.measure)
_ALL = (mesh.measure, blend.measure, edges.measure, prep.measure, smoothing.measure, speak.measure)

if __name__ == "__main__":
    parts = _SHORT if "--short" in sys.argv else _ALL
    card.print_card("warmtalk, embedded renderer", [row for part in parts for row in part()])
