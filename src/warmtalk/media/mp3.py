"""What an mp3 says of its own length: the Xing, Info or VBRI header that encoders put into its first frame."""

from __future__ import annotations

import struct

_SAMPLES = {3: 1152, 2: 576, 0: 576}
"""Of one frame of layer III, by version: MPEG 1, 2 and 2.5."""
_SIDE = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9, (0, False): 17, (0, True): 9}
"""Bytes between the head of a frame and its Xing header, by version and whether it is mono."""


def declared_samples(data: bytes) -> int:
    """Samples per channel by the file's own header; 0 when it says nothing."""
    place = _after_id3(data)
    head = data[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    if version not in _SAMPLES:
        return 0
    return _frames(data, place + 4, _SIDE[version, mono]) * _SAMPLES[version]


def _frames(data: bytes, place: int, side: int) -> int:
    try:
        if data[place + side :][:4] in (b"Xing", b"Info"):
            flags, frames = struct.unpack_from(">II", data, place + side + 4)
            return int(frames) if flags & 1 else 0
        if data[place + 32 :][:4] == b"VBRI":
            return int(struct.unpack_from(">I", data, place + 32 + 14)[0])
    except struct.error:
        pass
    return 0


def _after_id3(data: bytes) -> int:
    """Where the sound begins: an ID3 tag has its size in four bytes of seven bits."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)
