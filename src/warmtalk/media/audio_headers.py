"""Checks the headers of untrusted audio files: kind of file, declared length, and a missing end."""

from __future__ import annotations

import struct

from warmtalk.core.errors import BadMedia
from warmtalk.media import mp3
from warmtalk.media.file_types import AUDIO_DEMUXERS, HEAD_BYTES, sniff

SUPPORTED_HINT = "Send a wav, mp3, flac or ogg file"
INCOMPLETE_HINT = "Send the whole file"
_STREAMED_WAV_BYTES = 0xFFFFFF00
"""Declared sizes from here on are placeholders: a program that writes to a pipe cannot go back to the header."""


def audio_kind(data: bytes) -> str:
    """Returns "wav", "mp3", "flac" or "ogg". Raises BadMedia for other files and for a wav or ogg that is cut short."""
    if not data:
        raise BadMedia("the audio file is empty", SUPPORTED_HINT)
    kind = sniff(data[:HEAD_BYTES])
    if kind not in AUDIO_DEMUXERS:
        raise BadMedia(f"the audio file is {f'a {kind} file' if kind else 'of an unknown kind'}", SUPPORTED_HINT)
    if kind == "wav":
        _check_wav(data)
    if kind == "ogg":
        _check_ogg(data)
    return kind


def declared_samples(kind: str, data: bytes) -> int:
    """Returns the samples per channel by the file's own header; 0 when unknown."""
    if kind == "flac":  # the first block is STREAMINFO
        return int.from_bytes(data[21:26], "big") & ((1 << 36) - 1)
    return mp3.declared_samples(data) if kind == "mp3" else 0


def no_samples_error() -> BadMedia:
    """Returns the error for audio of length zero."""
    return BadMedia("the audio has no samples", "Send audio that is longer than nothing")


def _check_wav(data: bytes) -> None:
    """Raises BadMedia for a wav that is cut short, which ffmpeg decodes without an error."""
    offset = 12
    while offset + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, offset)
        available = len(data) - offset - 8
        if name == b"data":
            if size == 0 and available == 0:
                raise no_samples_error()
            if available < size < _STREAMED_WAV_BYTES:
                raise BadMedia(
                    f"the wav file is cut short: {available} of {size} bytes of audio are there", INCOMPLETE_HINT
                )
            return
        offset += 8 + size + size % 2
    raise BadMedia("the wav file is cut short before its audio", INCOMPLETE_HINT)


def _check_ogg(data: bytes) -> None:
    """Raises BadMedia unless the file ends with a page that is flagged as the last page."""
    offset, last = 0, False
    while data[offset : offset + 4] == b"OggS" and offset + 27 <= len(data):
        last = bool(data[offset + 5] & 4)
        segments = data[offset + 26]
        offset += 27 + segments + sum(data[offset + 27 : offset + 27 + segments])
    if offset > len(data) or not last:
        raise BadMedia("the ogg file is cut short", INCOMPLETE_HINT)
