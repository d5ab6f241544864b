"""Comparison of an existing avatar with a build request: same avatar, up to date, available upgrades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.core.bundle_files import AvatarInfo
from warmtalk.models.checkpoints import optional_models

_BEST_FIRST = {
    "detector": [model.name for model in optional_models.DETECTORS],
    "parsing": [model.name for model in optional_models.PARSERS],
}


def satisfies(existing: AvatarInfo, request: BuildRequest) -> bool:
    """Returns whether the avatar has the requested source and parameters; any choice matches an "auto" parameter.

    Also matches bundles built by an older version with default parameters, when the request uses defaults.
    """
    return not differences(existing, request)


def differences(existing: AvatarInfo, request: BuildRequest) -> list[str]:
    """Returns the names of differing parameters, or "source", or "maker" for an avatar of another program."""
    source = [] if existing.source_sha256 == request.source_sha256 else ["source"]
    requested, record = request.params.record(), _record(existing)
    if record is None:
        return source or ["maker"]
    return source + [name for name in requested if requested[name] != record[name] and name not in request.auto_params]


def is_up_to_date(existing: AvatarInfo, request: BuildRequest) -> bool:
    """Returns whether a new build on this service would give the same avatar."""
    return _record(existing) == request.params.record() and set(request.renderers) <= set(existing.renderers)


def available_upgrades(existing: AvatarInfo, auto_params: Mapping[str, str], renderers: Sequence[str]) -> list[str]:
    """Returns the improvements of a new build, such as "detector dwpose" or "renderer musetalk".

    `auto_params` maps each "auto" parameter to its current choice; `renderers` are the renderers of this service.
    """
    record = _record(existing)
    if record is None:
        return []
    better = [
        f"{name} {choice}"
        for name, choice in auto_params.items()
        if record[name] in _BEST_FIRST[name] and _BEST_FIRST[name].index(choice) < _BEST_FIRST[name].index(record[name])
    ]
    return better + [f"renderer {one}" for one in renderers if one not in existing.renderers]


def _record(existing: AvatarInfo) -> dict[str, Any] | None:
    """Returns the build parameters; None for an avatar of another program, whose parameters have another form."""
    try:
        return BuildParams.from_record(existing.params).record()
    except (KeyError, ValueError, TypeError):
        return None
