"""Reads the declared length of an mp3 file: encoders put a Xing, Info or VBRI header into the first frame."""

from __future__ import annotations

import struct

_FRAME_SAMPLES = {3: 1152, 2: 576, 0: 576}
"""Samples of a layer III frame, by version: MPEG 1, 2 and 2.5."""
_SIDE_BYTES = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9, (0, False): 17, (0, True): 9}
"""Bytes between the header of a frame and the Xing header, by (version, mono)."""


def declared_samples(data: bytes) -> int:
    """Returns the samples per channel by the file's own header; 0 without such a header."""
    offset = _after_id3(data)
    head = data[offset : offset + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    if version not in _FRAME_SAMPLES:
        return 0
    return _declared_frames(data, offset + 4, _SIDE_BYTES[version, mono]) * _FRAME_SAMPLES[version]


def _declared_frames(data: bytes, offset: int, side_bytes: int) -> int:
    try:
        if data[offset + side_bytes :][:4] in (b"Xing", b"Info"):
            flags, frames = struct.unpack_from(">II", data, offset + side_bytes + 4)
            return int(frames) if flags & 1 else 0
        if data[offset + 32 :][:4] == b"VBRI":
            return int(struct.unpack_from(">I", data, offset + 32 + 14)[0])
    except struct.error:
        pass
    return 0


def _after_id3(data: bytes) -> int:
    """Returns the byte offset of the audio. An ID3 tag stores its size in four bytes of seven bits."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)
