"""State of a build: queued, running or failed. A finished build has no state, because the bundle replaces the state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from warmtalk.avatar.build_request import BuildRequest
from warmtalk.avatar.builder import BuildProgress

QUEUED = BuildProgress()


class BuildState(Enum):
    """State of an avatar, as Avatar.State in prep.proto."""

    CREATING = 1
    READY = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Build:
    """A build request and its state. Immutable; updates replace the object."""

    request: BuildRequest
    state: BuildState
    requested_s: float
    """Seconds since the epoch."""
    progress: BuildProgress = QUEUED
    error: str = ""
