"""Table of comparisons: array, rule, largest difference, result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the table."""

    array: str
    """File and key of the recorded array."""
    rule: str
    difference: float
    """Largest absolute difference; infinite when the shapes differ."""
    passed: bool
    note: str = ""

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return (
            f"{self.array:54} {self.rule:24} {self.difference:<10.3g} {verdict}{'  ' + self.note if self.note else ''}"
        )


@dataclass(slots=True)
class Table:
    """Comparisons in the order of the calls."""

    on_row: Callable[[Comparison], None] = lambda row: None
    """Called with each row as soon as the row is known."""
    rows: list[Comparison] = field(default_factory=list)

    def compare(self, array: str, expected: Array, actual: Array, tolerance: float | Array = 0.0) -> None:
        """Adds a row that passes when no value differs by more than `tolerance`.

        0 means exact; the dtype may differ. An array holds the tolerance of each value.
        """
        difference = _differences(expected, actual)
        largest = float(np.max(tolerance))
        rule = f"<= {largest:.3g}" if largest else "exact"
        self._add(Comparison(array, rule, float(difference.max(initial=0.0)), bool((difference <= tolerance).all())))

    def compare_pixels(self, array: str, expected: Array, actual: Array, largest: int, share: float) -> None:
        """Adds a row that passes when no pixel differs by more than `largest`, and at most `share` of the pixels do."""
        difference = _differences(expected, actual)
        differing = float((difference > 0).mean()) if difference.size else 0.0
        passed = bool((difference <= largest).all()) and differing <= share
        rule = f"<= {largest} on <= {share:.2%}"
        self._add(Comparison(array, rule, float(difference.max(initial=0.0)), passed, f"{differing:.4%} differ"))

    def add_correction(self, array: str, expected: Array, actual: Array, reason: str) -> None:
        """Adds a row for an array with an intended difference: the row passes and states the reason."""
        difference = float(_differences(expected, actual).max(initial=0.0))
        self._add(Comparison(array, "corrected", difference, True, reason))

    @property
    def passed(self) -> bool:
        """True when there are rows and all pass."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def _add(self, row: Comparison) -> None:
        self.rows.append(row)
        self.on_row(row)


def _differences(expected: Array, actual: Array) -> npt.NDArray[np.float64]:
    """Returns absolute differences; one infinite value when the shapes differ."""
    if expected.shape != actual.shape:
        return np.full(1, np.inf)
    return np.abs(expected.astype(np.float64) - actual.astype(np.float64))
