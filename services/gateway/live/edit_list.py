"""Edit list (ISO 14496-12, 8.6.6) for the head of an fMP4 stream: sets where a plain player starts to show video."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def add_edit_list(init_segment: bytes, start_s: float) -> bytes:
    """Returns the initialization segment with an edit list in every track.

    `init_segment` is ftyp and moov without edit lists. A player decodes the frames before `start_s` and
    does not show those frames; the player's clock is 0 at `start_s` of the stream. Raises ValueError for a damaged box.
    """
    return b"".join(
        _box(kind, b"".join(_edited_moov(body, start_s))) if kind == b"moov" else _box(kind, body)
        for kind, body in _boxes(init_segment)
    )


def _edited_moov(body: bytes, start_s: float) -> Iterator[bytes]:
    for kind, inner in _boxes(body):
        yield _box(kind, b"".join(_edited_track(inner, start_s)) if kind == b"trak" else inner)


def _edited_track(body: bytes, start_s: float) -> Iterator[bytes]:
    media_time = round(start_s * _timescale(body))
    # version 1, one entry: duration 0 (up to the end), media time, normal speed (16.16 fixed point)
    entry = struct.pack(">IIQqI", 1 << 24, 1, 0, media_time, 1 << 16)
    for kind, inner in _boxes(body):
        yield _box(kind, inner)
        if kind == b"tkhd":
            yield _box(b"edts", _box(b"elst", entry))


def _timescale(track: bytes) -> int:
    """Returns the track's units per second, from mdia/mdhd."""
    header = dict(_boxes(dict(_boxes(track))[b"mdia"]))[b"mdhd"]
    scale: int = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0]
    return scale


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields (type, content) of each box in `data`."""
    offset = 0
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        if size < 8:
            raise ValueError(f"MP4 box {kind!r} has a size of {size} bytes")
        yield kind, data[offset + 8 : offset + size]
        offset += size


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body
