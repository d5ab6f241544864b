"""Command lines of ffmpeg: the program, the common options, and restricted inputs for untrusted files.

ffmpeg-python composes the command lines. It never runs them: the children of this package do, within limits.
"""

from __future__ import annotations

import functools
import os
import shutil

import ffmpeg
from ffmpeg.nodes import FilterableStream, OutputStream

from warmtalk.core.errors import NotReady
from warmtalk.media.file_types import AUDIO_DEMUXERS, VIDEO_DEMUXERS
from warmtalk.media.sandbox import DECODER_THREADS

STDIN, STDOUT = "pipe:0", "pipe:1"
"""ffmpeg's names of the pipes."""
_DECODERS = {
    **dict.fromkeys(
        VIDEO_DEMUXERS,
        "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,libdav1d,libaom-av1,av1,mpeg1video,mpeg2video,mpeg4,mjpeg,prores,dvvideo,"
        "msmpeg4v2,msmpeg4,h263,wmv1,wmv2,wmv3,vc1,ffv1,rawvideo",
    ),
    "wav": "pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw,adpcm_ms,adpcm_ima_wav",
    "mp3": "mp3float,mp3",
    "flac": "flac",
    "ogg": "vorbis,libvorbis,opus,libopus,flac,speex,libspeex",
}
"""Kind of file -> the decoders that may run on this kind. The audio of a video is not decoded."""
_DEMUXER_OPTIONS = {"mp4": {"enable_drefs": 0, "use_absolute_path": 0}}
"""Kind of file -> demuxer options. A mov can name other files that hold the samples: such references stay closed."""


@functools.cache
def find_ffmpeg() -> str:
    """Returns the path of the program: WARMTALK_FFMPEG, else the system's ffmpeg, else the one of imageio-ffmpeg.

    Raises NotReady when no program is found.
    """
    configured = os.environ.get("WARMTALK_FFMPEG", "")
    if path := shutil.which(configured or "ffmpeg"):
        return path
    if configured:
        raise NotReady(f"WARMTALK_FFMPEG names {configured!r}, which is not a program", "Unset it or correct the path")
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise NotReady(
            "ffmpeg is missing", "Install it: pip install imageio-ffmpeg, or apt-get install ffmpeg"
        ) from error


def compile_command(output: OutputStream, *options: str) -> list[str]:
    """Returns the command line that writes `output`, over existing files. `options` are further global options.

    Raises NotReady without ffmpeg.
    """
    program = [find_ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-y", *options]
    return list(ffmpeg.compile(output, cmd=program))


def restricted_input(source: str, kind: str, **options: object) -> FilterableStream:
    """Returns an input that opens `source` (STDIN or a path) as this kind of file alone.

    The input admits one demuxer, the decoders of the kind and one protocol: no playlists, no other files, no network.
    `options` are further input options.
    """
    demuxer = (VIDEO_DEMUXERS | AUDIO_DEMUXERS)[kind]
    return ffmpeg.input(
        source,
        f=demuxer,
        protocol_whitelist="pipe" if source == STDIN else "file",
        format_whitelist=demuxer,
        codec_whitelist=_DECODERS[kind],
        threads=DECODER_THREADS,
        **_DEMUXER_OPTIONS.get(kind, {}),
        **options,
    )
