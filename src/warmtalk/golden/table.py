"""What was compared, by which rule, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Largest differences allowed, by precision. What comes before the networks is exact on a CPU."""

    mel: float
    states: float
    latents: float
    unet: float
    pixels: int
    """Largest difference of a decoded pixel, of 255."""
    pixel_share: float
    """Part of the pixels that may differ at all."""


TOLERANCES = {
    "fp32": Tolerances(0.0, 2e-5, 5e-6, 2e-5, 1, 0.002),
    "fp16": Tolerances(1e-4, 2e-2, 2e-2, 3e-2, 6, 1.0),
    "bf16": Tolerances(1e-4, 2e-1, 2e-1, 2e-1, 40, 1.0),
}
"""fp32: what the reference's own batches differ by. Half precision: about twice what the tiny checkpoint shows."""
ON_CUDA = Tolerances(1e-4, 2e-4, 1e-4, 1e-3, 2, 0.05)
"""fp32 on a GPU: other orders of summing, nothing rounded to TF32."""


@dataclass(frozen=True, slots=True)
class Row:
    array: str
    rule: str
    difference: float
    """Largest absolute one; infinite when the shapes differ."""
    passed: bool
    note: str = ""

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return (
            f"{self.array:54} {self.rule:24} {self.difference:<10.3g} {verdict}{'  ' + self.note if self.note else ''}"
        )


@dataclass(slots=True)
class Table:
    rows: list[Row] = field(default_factory=list)

    def close(self, array: str, wanted: Array, found: Array, tolerance: float = 0.0, note: str = "") -> None:
        """At most `tolerance` apart everywhere; 0 is exact, the type may differ."""
        difference = _largest(wanted, found)
        rule = f"<= {tolerance:g}" if tolerance else "exact"
        self.rows.append(Row(array, rule, difference, difference <= tolerance, note))

    def pixels(self, array: str, wanted: Array, found: Array, tolerances: Tolerances) -> None:
        difference = _largest(wanted, found)
        share = float((wanted != found).mean()) if wanted.shape == found.shape else 1.0
        passed = difference <= tolerances.pixels and share < tolerances.pixel_share + 1e-12
        rule = f"<= {tolerances.pixels} on < {tolerances.pixel_share:.1%}"
        self.rows.append(Row(array, rule, difference, passed, f"{share:.4%} differ"))

    def differs(self, array: str, wanted: Array, found: Array, why: str) -> None:
        """Corrected on purpose: no failure, and the table says so."""
        self.rows.append(Row(array, "corrected", _largest(wanted, found), True, why))

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)


def _largest(wanted: Array, found: Array) -> float:
    if wanted.shape != found.shape:
        return float("inf")
    if not wanted.size:
        return 0.0
    return float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max())
