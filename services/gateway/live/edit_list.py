"""The head of an fMP4 stream with an edit list (ISO 14496-12, 8.6.6): where a plain player begins to show it."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def starting_at(head: bytes, seconds: float) -> bytes:
    """`head` is ftyp and moov without edit lists. A player decodes what comes before `seconds` of the stream and shows
    nothing of it: its clock is 0 there.
    """
    return b"".join(
        _box(kind, b"".join(_moov(body, seconds))) if kind == b"moov" else _box(kind, body)
        for kind, body in _boxes(head)
    )


def _moov(body: bytes, seconds: float) -> Iterator[bytes]:
    for kind, inner in _boxes(body):
        yield _box(kind, b"".join(_track(inner, seconds)) if kind == b"trak" else inner)


def _track(body: bytes, seconds: float) -> Iterator[bytes]:
    time = round(seconds * _timescale(body))
    entry = struct.pack(">IIQqI", 1 << 24, 1, 0, time, 1 << 16)  # one of no length, so to the end, at normal speed
    for kind, inner in _boxes(body):
        yield _box(kind, inner)
        if kind == b"tkhd":
            yield _box(b"edts", _box(b"elst", entry))


def _timescale(track: bytes) -> int:
    """Of its mdhd."""
    header = dict(_boxes(dict(_boxes(track))[b"mdia"]))[b"mdhd"]
    scale: int = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0]
    return scale


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) one after another."""
    place = 0
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8:
            raise ValueError(f"a box {kind!r} of {size} bytes")
        yield kind, data[place + 8 : place + size]
        place += size


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body
