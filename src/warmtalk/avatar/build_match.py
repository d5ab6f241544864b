"""Whether an avatar that is there answers an order, and what a new one would gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.models.checkpoints import optional_models

_BEST_FIRST = {
    "detector": [kit.name for kit in optional_models.DETECTORS],
    "parsing": [kit.name for kit in optional_models.PARSERS],
}


def satisfies(made: AvatarInfo, order: BuildRequest) -> bool:
    """It is what was asked for: the same source and parameters, whatever stood for "auto" when it was made.

    Also what an older version made with its defaults: good enough for who asks for nothing special.
    """
    return not differences(made, order)


def differences(made: AvatarInfo, order: BuildRequest) -> list[str]:
    """What was asked for otherwise: names of parameters, or "source"; [] when it answers the order."""
    source = [] if made.source_sha256 == order.source_sha256 else ["source"]
    asked, record = order.params.record(), _record(made)
    if record is None:
        return source or ["maker"]
    return source + [name for name in asked if asked[name] != record[name] and name not in order.left_open]


def is_up_to_date(made: AvatarInfo, order: BuildRequest) -> bool:
    """Built again here, it would come out the same."""
    return _record(made) == order.params.record() and set(order.renderers) <= set(made.renderers)


def available_upgrades(made: AvatarInfo, here: Mapping[str, str], renderers: Sequence[str]) -> list[str]:
    """What a new one would have that this has not: "detector dwpose", "renderer musetalk".

    `here` says what "auto" stands for now, by parameter, for those that are left open; `renderers` are this service's.
    """
    record = _record(made)
    if record is None:
        return []
    better = [
        f"{name} {now}"
        for name, now in here.items()
        if record[name] in _BEST_FIRST[name] and _BEST_FIRST[name].index(now) < _BEST_FIRST[name].index(record[name])
    ]
    return better + [f"renderer {one}" for one in renderers if one not in made.renderers]


def _record(made: AvatarInfo) -> dict[str, Any] | None:
    """None for an avatar that other means made: its parameters are theirs."""
    try:
        return BuildParams.from_record(made.params).record()
    except (KeyError, ValueError, TypeError):
        return None
