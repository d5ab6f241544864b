"""Automatic `bbox_shift` and `extra_margin`, and the range in which a shift makes sense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NOSE_ROOT, _NOSE_UPPER, _NOSE_MIDDLE, _NOSE_TIP = 27, 28, 29, 30
_LOWER_LIDS, _UPPER_LIP, _CHIN = (40, 41, 46, 47), 51, 8
"""iBUG points."""
_BOUNDARY = 2 / 3
"""Boundary of the generated face, relative to the way from the root of the nose to its tip: the position of the
reference detector's 29th point, and so the boundary of MuseTalk's training. The mesh's 29th point lies at 0.77, which
is lower by 3 % of the face."""
_FEATHER = 0.075
"""Reach of the blend mask's blur to either side of the boundary, relative to the box's height."""
_MARGIN, _MIN_MARGIN_PX = 0.08, 10
"""Room under the chin: share of the face box's height, and at least the reference's pixels. An opening jaw moves down
by about this distance."""


@dataclass(frozen=True, slots=True)
class BboxShift:
    """A shift in pixels. Positive values move the boundary down and open the mouth more."""

    used: int
    automatic: bool
    low: int
    high: int
    """`low` to `high` is the adjustable range as printed by the reference: to the tip of the nose, and to the point
    above the middle point, averaged over all frames."""


def choose_bbox_shift(points: npt.NDArray[np.float32], requested: int | None) -> BboxShift:
    """Returns one shift for all frames, because a boundary that moves within the face is visible.

    `points` are the [n, 68, 2] points of the frames with a face, n at least 1. `requested` replaces the automatic
    shift.

    Automatic: the boundary lies two thirds down the nose, as in training. In a bent head this position may come closer
    to the lower eyelids or to the upper lip than the reach of the feather; the boundary then moves away to that
    distance, or to the middle between eyelids and lip when both are too close. Eyelids and lips that are half generated
    and half original reveal a wrong shift.
    """
    y = points[:, :, 1].astype(np.float64)
    low = -round(float((y[:, _NOSE_TIP] - y[:, _NOSE_MIDDLE]).mean()))
    high = round(float((y[:, _NOSE_MIDDLE] - y[:, _NOSE_UPPER]).mean()))
    low, high = min(low, 0), max(high, 0)
    if requested is not None:
        return BboxShift(requested, automatic=False, low=low, high=high)
    boundary = y[:, _NOSE_ROOT] + _BOUNDARY * (y[:, _NOSE_TIP] - y[:, _NOSE_ROOT])
    feather = _FEATHER * 2 * (y[:, _CHIN] - boundary)
    lids = y[:, _LOWER_LIDS].max(1) + feather
    lip = y[:, _UPPER_LIP] - feather
    boundary = np.where(lids <= lip, np.clip(boundary, lids, np.maximum(lip, lids)), (lids + lip) / 2)
    shift = float(np.median(boundary - y[:, _NOSE_MIDDLE]))
    return BboxShift(round(float(np.clip(shift, low, high))), automatic=True, low=low, high=high)


def choose_extra_margin(points: npt.NDArray[np.float32], shift: int, requested: int | None) -> int:
    """Returns the pixels of room under the chin for [n, 68, 2] points, n at least 1."""
    if requested is not None:
        return requested
    y = points[:, :, 1]
    heights = 2 * (y.max(1) - y[:, _NOSE_MIDDLE] - shift)
    return max(_MIN_MARGIN_PX, round(_MARGIN * float(np.median(heights))))
