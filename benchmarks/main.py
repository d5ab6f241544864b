"""python -m benchmarks.main: all figures of the embedded renderer as one card and one JSON line."""

from __future__ import annotations

from benchmarks import blend, card, edges, mesh, prep, smoothing, speak

_PARTS = (mesh.measure, blend.measure, edges.measure, prep.measure, smoothing.measure, speak.measure)

if __name__ == "__main__":
    card.print_card("warmtalk, embedded renderer", [row for part in _PARTS for row in part()])
