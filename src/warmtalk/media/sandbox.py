"""How a child that reads what strangers sent is started: within limits, and with nothing to take or to write.

The limits stand before its program begins. It may write to its pipes alone: no file, no core dump. It inherits no
open file and none of the service's variables, which hold keys.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DECODER_THREADS = 4
"""Of one decoder: each holds pictures of its own."""
_LAUNCH = Path(__file__).with_name("sandbox_exec.py")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Most that one child may use, for files made to be slow or large."""

    memory_bytes: int
    cpu_s: int


VIDEO_LIMITS = ResourceLimits(2 << 30, 3600)
"""4096 x 2304 in HDR takes 1 GiB."""
PHOTO_LIMITS = ResourceLimits(2 << 30, 60)
AUDIO_LIMITS = ResourceLimits(512 << 20, 120)


def sandbox_command(command: Sequence[str], limits: ResourceLimits) -> list[str]:
    """The command that runs `command`, whose first word is an absolute path, within limits."""
    return [sys.executable, "-I", "-S", str(_LAUNCH), str(limits.memory_bytes), str(limits.cpu_s), *command]


def sandbox_environment() -> dict[str, str]:
    """What such a child may know of this process's."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each would reserve memory
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | one_thread
