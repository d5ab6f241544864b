"""Replaces the video of a file: everything else is copied, packet by packet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import ffmpeg
from ffmpeg.nodes import FilterableStream, OutputStream

from warmtalk.core.errors import InvalidInput, NotReady, WarmtalkError
from warmtalk.media.ffmpeg_process import run_ffmpeg
from warmtalk.media.file_types import VIDEO_DEMUXERS
from warmtalk.media.storage import remove_files

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""File ending -> ffmpeg's name of the format."""


def output_format(out: Path) -> str:
    """Returns ffmpeg's name of the format by the path's ending. Raises InvalidInput for other endings."""
    if out.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{out.name} is not the name of a video", "Name it .mp4, .mov or .mkv")
    return FORMATS[out.suffix.lower()]


def check_audio_copy(source: Path, kind: str, out: Path) -> None:
    """Raises InvalidInput when the format of `out` cannot hold the audio of `source` unchanged."""
    black = ffmpeg.input("color=s=16x16:d=0.1", f="lavfi")
    trial = ffmpeg.output(
        black["v"],
        _input(source, kind)["a?"],
        os.devnull,
        f=output_format(out),
        acodec="copy",
        strict=-2,
        t=0.1,
    )
    try:
        run_ffmpeg(trial, "testing the audio")
    except NotReady:
        raise
    except WarmtalkError as error:
        raise InvalidInput(f"{out.suffix} cannot hold the audio of {source.name} as it is", "Name OUT .mkv") from error


def replace_video(source: Path, kind: str, segments: Sequence[Path], out: Path) -> None:
    """Writes `out`: the frames of `segments` one after the other, and the audio of `source` bit for bit.

    The offset between audio and the first frame stays (see VideoReader, align_to_audio). `kind` is the source's kind by
    `sniff`. `out` appears when the file is complete. Raises StorageFull, WarmtalkError.
    """
    names = out.with_name(f"{out.name}.list.tmp")
    partial = out.with_name(f"{out.name}.tmp")
    try:
        names.write_text("".join(f"file '{_quoted(path)}'\n" for path in segments))
        run_ffmpeg(_remux_output(names, _input(source, kind), partial, output_format(out)), f"writing {out.name}")
        partial.replace(out)
    finally:
        remove_files(names, partial)


def _remux_output(names: Path, original: FilterableStream, partial: Path, format_name: str) -> OutputStream:
    """Returns the remuxed file and a second output, which is thrown away.

    In some formats a file starts for ffmpeg with the first packet of the streams that are used. The second output uses
    the original video too, so that the audio keeps its offset from the video that is left out.
    """
    video = ffmpeg.input(str(names), f="concat", safe=0)
    # Inputs are numbered in the order of their first use: metadata comes from number 1, the original.
    written = ffmpeg.output(
        video["v:0"], original["a?"], str(partial), f=format_name, c="copy", strict=-2, map_metadata=1
    )
    discarded = ffmpeg.output(original["V:0"], original["a?"], "-", f="null", c="copy")
    return ffmpeg.merge_outputs(written, discarded)


def _input(source: Path, kind: str) -> FilterableStream:
    """Returns an input that opens `source` as this kind of file alone, for copying."""
    demuxer = VIDEO_DEMUXERS[kind]
    return ffmpeg.input(str(source.resolve()), f=demuxer, protocol_whitelist="file", format_whitelist=demuxer)


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("'", "'\\''")
