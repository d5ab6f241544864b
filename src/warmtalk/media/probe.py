"""What has to be known of a video before it is decoded."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from warmtalk.media.file_types import find_ffmpeg, restricted_input
from warmtalk.media.sandbox import VIDEO_LIMITS, sandbox_command, sandbox_environment

_PROBE_S = 30.0
_HDR = re.compile(rb"Video: [^\n]*\bbt2020[^\n]*/(smpte2084|arib-std-b67)\b")
_INTERLACED = re.compile(rb"Video: [^\n]*\b(top|bottom)( coded)? first\b")
_DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced,"
_FLAT = "it is an HDR film, which this ffmpeg cannot convert, so its colours look flat: use one with the filter zscale"
_RATE = re.compile(rb"Video: [^\n]*?, ([\d.]+) fps")
_START = re.compile(rb"Duration: [^\n]*, start: (-?[\d.]+)")
_TELEVISION = tuple(Fraction(rate, 1001) for rate in (24_000, 30_000, 60_000, 120_000))
_TONE_MAP = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p,"
)


@dataclass(frozen=True, slots=True)
class VideoCorrections:
    """What a film needs to look right."""

    filters_before_fps: str = ""
    """Filters before the frame rate is changed, each followed by a comma."""
    filters_after_fps: str = ""
    warnings: tuple[str, ...] = ()
    """For people: what is not as it should be."""


def probe_corrections(path: Path, kind: str, max_pixels: int) -> VideoCorrections:
    """HDR films (PQ or HLG, as phones make them) become ordinary ones, and interlaced frames whole ones.

    Blocks for about 50 ms. A file that cannot be opened needs nothing: the decoder says why. Raises NotReady.
    """
    guard = ["-hide_banner", "-nostdin", "-max_pixels", str(max_pixels)]
    command = [find_ffmpeg(), *guard, *restricted_input(str(path.resolve()), kind), "-t", "0", "-f", "null", "-"]
    said = _said(command)
    before = _DEINTERLACE if _INTERLACED.search(said) else ""
    if not _HDR.search(said):
        return VideoCorrections(before)
    return VideoCorrections(before, _TONE_MAP) if _can_tone_map() else VideoCorrections(before, warnings=(_FLAT,))


@functools.cache
def _can_tone_map() -> bool:
    """Not every build of ffmpeg has the filters."""
    said = _said([find_ffmpeg(), "-hide_banner", "-filters"])
    return all(re.search(rb"\s%s\s" % name, said) for name in (b"zscale", b"tonemap"))


def _said(command: list[str]) -> bytes:
    try:
        done = subprocess.run(
            sandbox_command(command, VIDEO_LIMITS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=sandbox_environment(),
            timeout=_PROBE_S,
        )
    except subprocess.TimeoutExpired:
        return b""
    return done.stdout


def probe_frame_rate(path: Path, kind: str) -> Fraction:
    """Frames per second of a film, as a fraction where it is one of television's; 25 where the file does not say.

    Blocks for about 50 ms. Raises NotReady.
    """
    found = _RATE.search(_header(path, kind))
    said = float(found[1]) if found else 25.0
    near = [rate for rate in _TELEVISION if abs(float(rate) - said) < 0.006]
    return near[0] if near else Fraction(min(max(round(said, 2), 1.0), 120.0)).limit_denominator(1001)


def probe_start_s(path: Path, kind: str) -> float:
    """Seconds at which the first of its pictures and sounds stands, by the file's own clock; 0 where it does not say.

    Blocks for about 50 ms. Raises NotReady.
    """
    found = _START.search(_header(path, kind))
    return float(found[1]) if found else 0.0


def _header(path: Path, kind: str) -> bytes:
    nothing = ("-t", "0", "-f", "null", "-")
    return _said([find_ffmpeg(), "-hide_banner", "-nostdin", *restricted_input(str(path.resolve()), kind), *nothing])
