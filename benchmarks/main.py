"""python -m benchmarks.main: every figure of the embedded path, one card, one JSON line."""

from __future__ import annotations

from benchmarks import blend, card, mesh, speak, steady

if __name__ == "__main__":
    card.show("warmtalk, embedded renderer", [*mesh.measure(), *blend.measure(), *steady.measure(), *speak.measure()])
