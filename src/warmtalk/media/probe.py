"""Reads the properties of a video that the decoder needs in advance."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from warmtalk.media.ffmpeg_command import compile_command, find_ffmpeg, restricted_input
from warmtalk.media.sandbox import VIDEO_LIMITS, sandbox_command, sandbox_environment

_TIMEOUT_S = 30.0
_HDR = re.compile(rb"Video: [^\n]*\bbt2020[^\n]*/(smpte2084|arib-std-b67)\b")
_INTERLACED = re.compile(rb"Video: [^\n]*\b(top|bottom)( coded)? first\b")
_DEINTERLACE = ("bwdif=mode=send_frame:deint=interlaced",)
_NO_TONE_MAPPING = (
    "it is an HDR video, which this ffmpeg cannot convert, so its colours look flat: "
    "use an ffmpeg with the filter zscale"
)
_RATE = re.compile(rb"Video: [^\n]*?, ([\d.]+) fps")
_START = re.compile(rb"Duration: [^\n]*, start: (-?[\d.]+)")
_NTSC_RATES = tuple(Fraction(rate, 1001) for rate in (24_000, 30_000, 60_000, 120_000))
_TONE_MAP = (
    "zscale=t=linear:npl=203",
    "format=gbrpf32le",
    "zscale=p=bt709",
    "tonemap=mobius:desat=0",
    "zscale=t=bt709:m=bt709:r=tv",
    "format=yuv420p",
)
_DEFAULT_FPS = 25.0


@dataclass(frozen=True, slots=True)
class VideoCorrections:
    """Filters of ffmpeg that a video needs to look right."""

    filters_before_fps: tuple[str, ...] = ()
    """Filters that run at the video's own frame rate."""
    filters_after_fps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Faults that no filter corrects, as text for users."""


def probe_corrections(path: Path, kind: str, max_pixels: int) -> VideoCorrections:
    """Returns the filters that convert HDR videos (PQ or HLG, as phones record) to SDR and deinterlace interlaced ones.

    Blocks for about 50 ms. A file that cannot be opened needs no filters: the decoder reports the error. Raises
    NotReady.
    """
    header = _read_header(path, kind, max_pixels=max_pixels)
    before = _DEINTERLACE if _INTERLACED.search(header) else ()
    if not _HDR.search(header):
        return VideoCorrections(before)
    if _can_tone_map():
        return VideoCorrections(before, _TONE_MAP)
    return VideoCorrections(before, warnings=(_NO_TONE_MAPPING,))


def probe_frame_rate(path: Path, kind: str) -> Fraction:
    """Returns the frames per second of a video: an exact NTSC fraction where close; 25 where the file has no rate.

    Blocks for about 50 ms. Raises NotReady.
    """
    match = _RATE.search(_read_header(path, kind))
    fps = float(match[1]) if match else _DEFAULT_FPS
    close = [rate for rate in _NTSC_RATES if abs(float(rate) - fps) < 0.006]
    return close[0] if close else Fraction(min(max(round(fps, 2), 1.0), 120.0)).limit_denominator(1001)


def probe_start_s(path: Path, kind: str) -> float:
    """Returns the time of the first frame or audio packet, by the file's clock, in seconds; 0 where not given.

    Blocks for about 50 ms. Raises NotReady.
    """
    match = _START.search(_read_header(path, kind))
    return float(match[1]) if match else 0.0


@functools.cache
def _can_tone_map() -> bool:
    """Returns True when this build of ffmpeg has the filters of _TONE_MAP."""
    text = _output_of([find_ffmpeg(), "-hide_banner", "-filters"])
    return all(re.search(rb"\s%s\s" % name, text) for name in (b"zscale", b"tonemap"))


def _read_header(path: Path, kind: str, **options: object) -> bytes:
    """Returns ffmpeg's description of the file, without decoding. `options` are input options."""
    source = restricted_input(str(path.resolve()), kind, **options)
    return _output_of(compile_command(source.output("-", f="null", t=0)))


def _output_of(command: list[str]) -> bytes:
    """Returns stdout and stderr of a sandboxed command; b"" when the command takes longer than _TIMEOUT_S."""
    try:
        completed = subprocess.run(
            sandbox_command(command, VIDEO_LIMITS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=sandbox_environment(),
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return b""
    return completed.stdout
