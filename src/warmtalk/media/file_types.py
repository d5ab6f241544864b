"""Finds ffmpeg and says how an untrusted file is opened with it."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from warmtalk.core.errors import BadMedia, NotReady
from warmtalk.media.sandbox import DECODER_THREADS

VIDEO_DEMUXERS = {"mp4": "mov", "webm": "matroska", "avi": "avi", "mpeg": "mpeg", "ts": "mpegts"}
"""Kind of file by its first bytes -> the one demuxer that may open it."""
AUDIO_DEMUXERS = {"wav": "wav", "mp3": "mp3", "flac": "flac", "ogg": "ogg"}
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
"""Kind of file -> the decoders that may run on it. A film's sound is not decoded."""
_OPTIONS = {"mp4": ("-enable_drefs", "0", "-use_absolute_path", "0")}
"""A mov may name other files that its samples are in."""
HEAD_BYTES = 400
"""What `sniff` wants to see."""


@functools.cache
def find_ffmpeg() -> str:
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


def restricted_input(source: str, kind: str) -> list[str]:
    """Arguments that open `source` ("pipe:0" or a path) as this kind of file alone: no playlists, no other files, no
    net, and the decoders of that kind.
    """
    demuxer = (VIDEO_DEMUXERS | AUDIO_DEMUXERS)[kind]
    return [
        *("-protocol_whitelist", "pipe" if source == "pipe:0" else "file", "-format_whitelist", demuxer),
        *("-codec_whitelist", _DECODERS[kind], "-threads", str(DECODER_THREADS)),
        *(*_OPTIONS.get(kind, ()), "-f", demuxer, "-i", source),
    ]


def sniff(head: bytes) -> str:
    """Kind of file by its first HEAD_BYTES bytes, not by its name.

    Those that are read: mp4 (mov too), webm (mkv too), avi, mpeg, ts, jpg, png, webp, wav, mp3, flac, ogg. Those that
    are refused by name: heic (avif too), gif, svg, pdf, playlist. "" for anything else.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "heic"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"AVI ": "avi", b"WEBP": "webp"}.get(head[8:12], "")
    if any(len(head) > first + 2 * step and set(head[first::step]) == {0x47} for first, step in ((0, 188), (4, 192))):
        return "ts"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return "mp3"
    return _sniff_text(head)


def _sniff_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"#extm3u", b"ffconcat", b"[playlist]", b"#ext")) or b"<mpd" in text or b"<smil" in text:
        return "playlist"
    return "svg" if text.startswith(b"<") and b"<svg" in text else ""


_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_MAGIC = {
    b"\x1aE\xdf\xa3": "webm",
    b"\x00\x00\x01\xba": "mpeg",
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"%PDF": "pdf",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
}


def sniff_file(path: Path) -> str:
    """`sniff` of a file on disk. Raises BadMedia when it is missing, empty or not a file."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise BadMedia(f"{path.name} cannot be read ({error.strerror})", "Check the path") from error
    if not head:
        raise BadMedia(f"{path.name} is empty", "Upload it again")
    return sniff(head)


def unsupported_media(name: str, kind: str) -> BadMedia:
    """Why a file of this kind, as `sniff` names it, becomes no avatar."""
    what, hint = _REFUSED.get(kind, ("not a video or picture that can be read", f"Use {READABLE_KINDS}"))
    if kind in AUDIO_DEMUXERS:
        what, hint = "a sound, and no picture", f"Use {READABLE_KINDS}"
    return BadMedia(f"{name} is {what}", hint)


READABLE_KINDS = "mp4, mov, webm, mkv, avi, mpg, jpg, png or webp"
_REFUSED = {
    "gif": ("a GIF, which has too few colours for a face", "Use the video that it was made of, or convert it to mp4"),
    "heic": ("a HEIC or AVIF photo", "Export it as jpg"),
    "svg": ("an SVG drawing, which may name other files", "Export it as png"),
    "pdf": ("a PDF document", "Export its picture as jpg or png"),
    "playlist": ("a list of other files, which are not opened", "Use the video itself"),
}
