"""Starts children that read untrusted files: within resource limits, with nothing to take and nothing to write.

The limits are set before the child's program starts. The child may write to its pipes alone: no file, no core dump.
The child inherits no open file and none of the service's environment variables, some of which hold keys.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DECODER_THREADS = 4
"""Threads of one decoder. Each thread holds frames of its own, so more threads need more memory."""
_SANDBOX_EXEC = Path(__file__).with_name("sandbox_exec.py")
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Maximum resources of one child, against files made to be slow or large."""

    memory_bytes: int
    cpu_s: int


VIDEO_LIMITS = ResourceLimits(2 << 30, 3600)
"""Decoding 4096 x 2304 in HDR takes 1 GiB."""
PHOTO_LIMITS = ResourceLimits(2 << 30, 60)
AUDIO_LIMITS = ResourceLimits(512 << 20, 120)


def sandbox_command(command: Sequence[str], limits: ResourceLimits) -> list[str]:
    """Returns the command line that runs `command` within `limits`. The first word is an absolute path."""
    return [
        *(sys.executable, "-I", "-S", str(_SANDBOX_EXEC)),
        *(str(limits.memory_bytes), str(limits.cpu_s)),
        *command,
    ]


def sandbox_environment() -> dict[str, str]:
    """Returns the environment of such a child."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each thread would reserve memory
    return {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ} | one_thread
