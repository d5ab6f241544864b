"""Recognises media files by their first bytes and says why a file is refused."""

from __future__ import annotations

from pathlib import Path

from warmtalk.core.errors import BadMedia

VIDEO_DEMUXERS = {"mp4": "mov", "webm": "matroska", "avi": "avi", "mpeg": "mpeg", "ts": "mpegts"}
"""Kind of file by its first bytes -> the one ffmpeg demuxer allowed to open the file."""
AUDIO_DEMUXERS = {"wav": "wav", "mp3": "mp3", "flac": "flac", "ogg": "ogg"}
HEAD_BYTES = 400
"""Bytes that `sniff` needs."""
READABLE_KINDS = "mp4, mov, webm, mkv, avi, mpg, jpg, png or webp"
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
_UNSUPPORTED = {
    "gif": ("a GIF, which has too few colours for a face", "Use the video that it was made of, or convert it to mp4"),
    "heic": ("a HEIC or AVIF photo", "Export it as jpg"),
    "svg": ("an SVG drawing, which may name other files", "Export it as png"),
    "pdf": ("a PDF document", "Export its image as jpg or png"),
    "playlist": ("a list of other files, which are not opened", "Use the video itself"),
}
"""Kind of file -> description and hint of the refusal."""


def sniff(head: bytes) -> str:
    """Returns the kind of a file by its first HEAD_BYTES bytes; the file's name does not count.

    Kinds that are read: mp4 (mov too), webm (mkv too), avi, mpeg, ts, jpg, png, webp, wav, mp3, flac, ogg. Kinds that
    are refused by name: heic (avif too), gif, svg, pdf, playlist. "" for anything else.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "heic"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"AVI ": "avi", b"WEBP": "webp"}.get(head[8:12], "")
    # MPEG-TS: each packet of 188 bytes starts with a sync byte; M2TS puts 4 bytes before each packet.
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


def sniff_file(path: Path) -> str:
    """Returns `sniff` of a file on disk. Raises BadMedia when the file is missing, empty or not a regular file."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise BadMedia(f"{path.name} cannot be read ({error.strerror})", "Check the path") from error
    if not head:
        raise BadMedia(f"{path.name} is empty", "Upload it again")
    return sniff(head)


def unsupported_media(name: str, kind: str) -> BadMedia:
    """Returns the error which says why a file of this kind, as `sniff` names the kind, cannot become an avatar."""
    if kind in AUDIO_DEMUXERS:
        return BadMedia(f"{name} is an audio file without video", f"Use {READABLE_KINDS}")
    description, hint = _UNSUPPORTED.get(kind, ("not a video or image that can be read", f"Use {READABLE_KINDS}"))
    return BadMedia(f"{name} is {description}", hint)
