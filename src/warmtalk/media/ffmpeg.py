"""Finds ffmpeg and says how an untrusted file is opened with it."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from warmtalk.core.errors import BadMedia, NotReady

_PROTOCOLS = "file,pipe,fd"

VIDEO_DEMUXERS = {"mp4": "mov", "webm": "matroska"}
"""Kind of file by its first bytes -> the one demuxer that may open it."""
AUDIO_DEMUXERS = {"wav": "wav", "mp3": "mp3", "flac": "flac", "ogg": "ogg"}


@functools.cache
def ffmpeg() -> str:
    """Path of the program: WARMTALK_FFMPEG, else the system's, else the one that imageio-ffmpeg ships.

    Raises NotReady when there is none.
    """
    named = os.environ.get("WARMTALK_FFMPEG", "")
    found = shutil.which(named or "ffmpeg")
    if found:
        return found
    if named:
        raise NotReady(f"WARMTALK_FFMPEG names {named!r}, which is not a program", "Unset it or correct the path")
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise NotReady(
            "ffmpeg is missing", "Install it: pip install imageio-ffmpeg, or apt-get install ffmpeg"
        ) from error


def safe_input(source: str, demuxer: str) -> list[str]:
    """Arguments that open `source` ("pipe:0" or a path) with this demuxer alone: no playlists, no net."""
    return ["-protocol_whitelist", _PROTOCOLS, "-format_whitelist", demuxer, "-f", demuxer, "-i", source]


def sniff(head: bytes) -> str:
    """Kind of file by its first 16 bytes, not by its name: mp4 (mov too), webm (mkv too), jpg, png, wav, mp3, flac,
    ogg; "" for anything else.
    """
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return "mp3"
    return ""


_MAGIC = {
    b"\x1aE\xdf\xa3": "webm",
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
}


def sniff_file(path: Path) -> str:
    """`sniff` of a file on disk. Raises BadMedia when it is missing, empty or not a file."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise BadMedia(f"{path.name} cannot be read ({error.strerror})", "Check the path") from error
    if not head:
        raise BadMedia(f"{path.name} is empty", "Upload it again")
    return sniff(head)
