"""Sets resource limits on the own process, then becomes a program.

    sandbox_exec.py MEMORY_BYTES CPU_S PROGRAM ARGUMENTS...

Started by media/sandbox.py. Imports the standard library alone, so that the start costs no more than 20 ms.
"""

from __future__ import annotations

import os
import resource
import sys

_OPEN_FILES = 64
_ADDRESS_SPACE_FACTOR = 8
"""Address space per byte of memory: threads and libraries reserve far more than they use."""


def main() -> None:
    memory, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    _limit(resource.RLIMIT_DATA, memory)
    _limit(resource.RLIMIT_AS, memory * _ADDRESS_SPACE_FACTOR)
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - running a program is the purpose of this script


def _limit(kind: int, value: int) -> None:
    """Sets the limit to `value`, or to the current hard limit if lower. Systems without this limit go without."""
    _, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (limit, limit))
    except (OSError, ValueError) as error:
        if sys.platform == "linux":
            raise SystemExit(f"the limit {kind} cannot be set: {error}") from error


if __name__ == "__main__":
    main()
