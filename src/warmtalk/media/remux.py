"""A film with its picture replaced: everything else is copied, packet by packet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from warmtalk.core.errors import InvalidInput
from warmtalk.media.ffmpeg import VIDEO_DEMUXERS
from warmtalk.media.process import remove, run

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}


def checked_format(out: Path) -> str:
    """ffmpeg's name of the format by the path's ending. Raises InvalidInput."""
    if out.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{out.name} is no film's name", "Name it .mp4, .mov or .mkv")
    return FORMATS[out.suffix.lower()]


def replace_picture(source: Path, kind: str, segments: Sequence[Path], out: Path) -> None:
    """Writes `out`: the pictures of `segments` one after the other, and the sound of `source` bit for bit.

    `kind` is what sniff calls the source. `out` appears when it is whole. Raises StorageFull, WarmtalkError.
    """
    names = out.with_name(f"{out.name}.list.tmp")
    partial = out.with_name(f"{out.name}.tmp")
    demuxer = VIDEO_DEMUXERS[kind]
    try:
        names.write_text("".join(f"file '{_quoted(path)}'\n" for path in segments))
        run(
            [
                *("-y", "-f", "concat", "-safe", "0", "-i", str(names)),
                *(
                    "-protocol_whitelist",
                    "file",
                    "-format_whitelist",
                    demuxer,
                    "-f",
                    demuxer,
                    "-i",
                    str(source.resolve()),
                ),
                *("-map", "0:v:0", "-map", "1:a?", "-c", "copy", "-strict", "-2", "-map_metadata", "1"),
                *("-f", checked_format(out), str(partial)),
            ],
            f"writing {out.name}",
        )
        partial.replace(out)
    finally:
        remove(names, partial)


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("'", "'\\''")
