"""What our child processes use: processor time and memory, out of /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s() -> float:
    """Seconds used so far by all descendants, those that ended and were waited for included."""
    return _sum(lambda stat: sum(int(value) for value in stat[12:16]) / _TICKS)


def rss_mb(*, encoders: bool = True) -> float:
    """MiB held by all descendants; without ffmpeg's, which come and go, unless `encoders`."""
    return _sum(lambda stat: 0.0 if stat[0] == "ffmpeg" and not encoders else int(stat[22]) * _PAGE / (1 << 20))


def _sum(of: Callable[[list[str]], float]) -> float:
    stats = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    ours, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, stat in stats.items() if stat and int(stat[2]) in ours} | ours
        ours, grown = more, len(more) > len(ours)
    return sum(of(stats[pid]) for pid in ours - {os.getpid()})


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the program's name on; none when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    head, _, tail = text.rpartition(")")
    return [head.partition("(")[2], *tail.split()]
