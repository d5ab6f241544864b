"""A film with its picture replaced: everything else is copied, packet by packet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from warmtalk.core.errors import InvalidInput, NotReady, WarmtalkError
from warmtalk.media.ffmpeg_process import remove_files, run_ffmpeg
from warmtalk.media.file_types import VIDEO_DEMUXERS

_ALL_STREAMS = ("-map", "1:V:0", "-map", "1:a?", "-c", "copy", "-f", "null", "-")
"""An output that is thrown away. In some formats a file begins for ffmpeg with the first packet of the streams that are
used: with this one, the sound keeps its distance from the picture that is left out."""
FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}


def output_format(out: Path) -> str:
    """ffmpeg's name of the format by the path's ending. Raises InvalidInput."""
    if out.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{out.name} is no film's name", "Name it .mp4, .mov or .mkv")
    return FORMATS[out.suffix.lower()]


def check_audio_copy(source: Path, kind: str, out: Path) -> None:
    """Raises InvalidInput when `out` cannot hold the sound of `source` as it is."""
    black = ["-f", "lavfi", "-i", "color=s=16x16:d=0.1", *_opened(source, kind), "-map", "0:v", "-map", "1:a?"]
    made = ["-c:a", "copy", "-strict", "-2", "-t", "0.1", "-f", output_format(out), "-y", os.devnull]
    try:
        run_ffmpeg([*black, *made], "trying")
    except NotReady:
        raise
    except WarmtalkError as error:
        raise InvalidInput(f"{out.suffix} cannot hold the sound of {source.name} as it is", "Name OUT .mkv") from error


def replace_video(source: Path, kind: str, segments: Sequence[Path], out: Path) -> None:
    """Writes `out`: the pictures of `segments` one after the other, and the sound of `source` bit for bit, as far from
    the first picture as it was (see VideoReader, align_to_audio).

    `kind` is what sniff calls the source. `out` appears when it is whole. Raises StorageFull, WarmtalkError.
    """
    names = out.with_name(f"{out.name}.list.tmp")
    partial = out.with_name(f"{out.name}.tmp")
    try:
        names.write_text("".join(f"file '{_quoted(path)}'\n" for path in segments))
        run_ffmpeg(
            [
                *("-y", "-f", "concat", "-safe", "0", "-i", str(names)),
                *_opened(source, kind),
                *("-map", "0:v:0", "-map", "1:a?", "-c", "copy", "-strict", "-2", "-map_metadata", "1"),
                *("-f", output_format(out), str(partial)),
                *_ALL_STREAMS,
            ],
            f"writing {out.name}",
        )
        partial.replace(out)
    finally:
        remove_files(names, partial)


def _opened(source: Path, kind: str) -> list[str]:
    demuxer = VIDEO_DEMUXERS[kind]
    return ["-protocol_whitelist", "file", "-format_whitelist", demuxer, "-f", demuxer, "-i", str(source.resolve())]


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("'", "'\\''")
