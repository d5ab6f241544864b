"""python -m benchmarks.main: every figure of the embedded path, one card, one JSON line."""

from __future__ import annotations

from benchmarks import blend, card, edges, mesh, prep, speak, steady

_PARTS = (mesh.measure, blend.measure, edges.measure, prep.measure, steady.measure, speak.measure)

if __name__ == "__main__":
    card.show("warmtalk, embedded renderer", [row for part in _PARTS for row in part()])
