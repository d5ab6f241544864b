"""The automatic `bbox_shift` and `extra_margin`, and the range in which a shift makes sense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ROOT, _UPPER, _MIDDLE, _TIP = 27, 28, 29, 30
_LOWER_LIDS, _UPPER_LIP, _CHIN = (40, 41, 46, 47), 51, 8
"""iBUG points."""
_PLACE = 2 / 3
"""Of the way from the root of the nose to its tip: where the reference's detector has its 29th point, and so where the
boundary lay when MuseTalk was trained. The mesh's lies at 0.77, 3 % of the face lower."""
_FEATHER = 0.075
"""Of the box's height: how far the blend mask's blur reaches to either side of the boundary."""
_MARGIN, _LEAST_MARGIN = 0.08, 10
"""Room under the chin: part of the face box's height, and at least the reference's pixels. An opening jaw moves down
by about so much."""


@dataclass(frozen=True, slots=True)
class BboxShift:
    """Pixels; positive moves the boundary down and opens the mouth more."""

    used: int
    automatic: bool
    low: int
    high: int
    """The adjustable range, as the reference prints it: to the tip of the nose and to the point above the middle one,
    averaged over all frames."""


def choose_bbox_shift(points: npt.NDArray[np.float32], asked: int | None) -> BboxShift:
    """Of the [n, 68, 2] points of the frames with a face, n at least 1. One shift for all frames: a boundary that moves
    within the face would be seen.

    Automatic: the boundary lies two thirds down the nose, as in training. Where a head is bent, so that this is less
    than the feather's reach under the lower eyelids or above the upper lip, it moves just as far away from them; when
    both are too near it lies between. Eyelids and lips that are half drawn and half kept are what gives a wrong shift
    away.
    """
    y = points[:, :, 1].astype(np.float64)
    low = -round(float((y[:, _TIP] - y[:, _MIDDLE]).mean()))
    high = round(float((y[:, _MIDDLE] - y[:, _UPPER]).mean()))
    low, high = min(low, 0), max(high, 0)
    if asked is not None:
        return BboxShift(asked, automatic=False, low=low, high=high)
    place = y[:, _ROOT] + _PLACE * (y[:, _TIP] - y[:, _ROOT])
    feather = _FEATHER * 2 * (y[:, _CHIN] - place)
    lids = y[:, _LOWER_LIDS].max(1) + feather
    lip = y[:, _UPPER_LIP] - feather
    place = np.where(lids <= lip, np.clip(place, lids, np.maximum(lip, lids)), (lids + lip) / 2)
    wanted = float(np.median(place - y[:, _MIDDLE]))
    return BboxShift(round(float(np.clip(wanted, low, high))), automatic=True, low=low, high=high)


def choose_margin(points: npt.NDArray[np.float32], shift: int, asked: int | None) -> int:
    """Pixels of room under the chin, for [n, 68, 2] points, n at least 1."""
    if asked is not None:
        return asked
    y = points[:, :, 1]
    heights = 2 * (y.max(1) - y[:, _MIDDLE] - shift)
    return max(_LEAST_MARGIN, round(_MARGIN * float(np.median(heights))))
