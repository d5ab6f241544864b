"""CPU time and memory of all child processes, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s() -> float:
    """Returns the CPU seconds of all descendants, including ended processes that were waited for."""
    return _sum(lambda stat: sum(int(value) for value in stat[12:16]) / _TICKS)


def rss_mb(*, encoders: bool = True) -> float:
    """Returns the resident memory of all descendants in MiB; `encoders=False` leaves out ffmpeg processes."""
    return _sum(lambda stat: 0.0 if stat[0] == "ffmpeg" and not encoders else int(stat[22]) * _PAGE / (1 << 20))


def _sum(value_of: Callable[[list[str]], float]) -> float:
    stats = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    family, grown = {os.getpid()}, True
    while grown:
        larger = {pid for pid, stat in stats.items() if stat and int(stat[2]) in family} | family
        family, grown = larger, len(larger) > len(family)
    return sum(value_of(stats[pid]) for pid in family - {os.getpid()})


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat, starting with the program name; [] when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    head, _, tail = text.rpartition(")")
    return [head.partition("(")[2], *tail.split()]
