"""Reads and changes the boxes of fragmented MP4 (ISO/IEC 14496-12). Numbers are big-endian."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from warmtalk.core.errors import Damaged

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex"}
_HEAD_BYTES = {b"stsd": 8, b"avc1": 78, b"fLaC": 28}
"""Boxes with children after so many bytes of their own."""
_MOST_IN_MEMORY = 64 << 20


@dataclass(frozen=True, slots=True)
class Mp4Box:
    """A box within a buffer."""

    path: tuple[bytes, ...]
    start: int
    """Of the box, header included."""
    body: int
    end: int


def walk_boxes(
    data: bytes | bytearray, start: int = 0, end: int | None = None, path: tuple[bytes, ...] = ()
) -> list[Mp4Box]:
    """Every box, parents before their children. Raises Damaged for a size that does not fit."""
    end = len(data) if end is None else end
    found: list[Mp4Box] = []
    while start < end:
        if end - start < 8:
            raise Damaged("an MP4 box is cut short")
        size, name = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= end - start:
            raise Damaged(f"an MP4 box {name!r} says it has {size} bytes")
        here = (*path, name)
        found.append(Mp4Box(here, start, start + 8, start + size))
        if name in _CONTAINERS or name in _HEAD_BYTES:
            found += walk_boxes(data, start + 8 + _HEAD_BYTES.get(name, 0), start + size, here)
        start += size
    return found


def top_level_boxes(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """(name, bytes of the body) of each box; the caller reads the body before it asks for the next."""
    while head := stream.read(8):
        if len(head) < 8:
            raise Damaged("an MP4 file is cut short")
        size, name = struct.unpack(">I4s", head)
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            size -= 8
        yield name, size - 8


def is_complete(path: Path) -> bool:
    """The file has its moov and every box is as long as it says."""
    size, place, names = path.stat().st_size, 0, set()
    with open(path, "rb") as file:
        while size - place >= 8:
            file.seek(place)
            name, body = next(top_level_boxes(file))
            if body < 0:
                return False
            names.add(name)
            place = file.tell() + body
    return place == size and b"moov" in names


def read_body(stream: IO[bytes], size: int) -> bytes:
    """A body of `size` bytes that is small enough to hold. Raises Damaged."""
    data = stream.read(size) if 0 <= size <= _MOST_IN_MEMORY else b""
    if len(data) != size:
        raise Damaged("an MP4 box is cut short")
    return data


def build_box(name: bytes, body: bytes | bytearray) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


# --- the head of a conversation: ftyp and moov ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mp4Track:
    """One track as the moov says."""

    track_id: int
    timescale: int
    kind: bytes
    """b"vide" or b"soun"."""
    codec: bytes
    """What a decoder must know: avcC, or rate, channels and depth of dfLa."""


def parse_tracks(moov: bytes | bytearray) -> list[Mp4Track]:
    """Tracks of a whole moov box (its header included)."""
    boxes = walk_boxes(moov)
    found: list[Mp4Track] = []
    for trak in (one for one in boxes if one.path[-1] == b"trak"):
        parts = {one.path[-1]: one for one in boxes if trak.start <= one.start < trak.end}
        wide = 8 if moov[parts[b"tkhd"].body] else 0
        (track_id,) = struct.unpack_from(">I", moov, parts[b"tkhd"].body + 12 + wide)
        wide = 8 if moov[parts[b"mdhd"].body] else 0
        (timescale,) = struct.unpack_from(">I", moov, parts[b"mdhd"].body + 12 + wide)
        kind = bytes(moov[parts[b"hdlr"].body + 8 : parts[b"hdlr"].body + 12])
        found.append(Mp4Track(track_id, timescale, kind, _codec(moov, parts)))
    return found


def _codec(moov: bytes | bytearray, parts: dict[bytes, Mp4Box]) -> bytes:
    if b"avcC" in parts:
        return bytes(moov[parts[b"avcC"].body : parts[b"avcC"].end])
    if b"dfLa" in parts:
        place = parts[b"dfLa"].body + _STREAMINFO + 10
        return bytes(moov[place : place + 3]) + bytes([moov[place + 3] & 0xF0])
    return b""


_STREAMINFO = 8
"""Offset of FLAC's STREAMINFO in a dfLa body: version and flags, then the metadata block header."""


def appendable_moov(moov: bytes) -> bytes:
    """The moov of one clip made into that of a file that grows: room for the duration, nothing said of one clip.

    FLAC's STREAMINFO counts the samples of the clip, bounds its frame sizes and has its MD5; all may be 0, which
    means unknown, and the block size gets the whole range that the format allows.
    """
    data = bytearray(moov)
    for one in walk_boxes(data):
        if one.path[-1] == b"dfLa":
            place = one.body + _STREAMINFO
            struct.pack_into(">HH6x", data, place, 16, 65535)
            data[place + 13] &= 0xF0
            data[place + 14 : place + 34] = bytes(20)
    if not any(one.path[-1] == b"mehd" for one in walk_boxes(data)):
        mvex = next(one for one in walk_boxes(data) if one.path[-1] == b"mvex")
        mehd = build_box(b"mehd", struct.pack(">IQ", 1 << 24, 0))
        data[mvex.body : mvex.body] = mehd
        for start in (mvex.start, 0):
            (size,) = struct.unpack_from(">I", data, start)
            struct.pack_into(">I", data, start, size + len(mehd))
    return bytes(data)


def duration_fields(head: bytes, seconds: float) -> list[tuple[int, bytes]]:
    """(place, bytes) of every field in ftyp + moov that tells players the length of the file."""
    fields: list[tuple[int, bytes]] = []
    movie_scale = 1000
    for one in walk_boxes(head):
        name, wide = one.path[-1], bool(head[one.body])
        if name == b"mvhd":
            (movie_scale,) = struct.unpack_from(">I", head, one.body + (20 if wide else 12))
            fields.append(_field(one.body + (24 if wide else 16), wide, seconds * movie_scale))
        elif name == b"tkhd":
            fields.append(_field(one.body + (28 if wide else 20), wide, seconds * movie_scale))
        elif name == b"mehd":
            fields.append(_field(one.body + 4, wide, seconds * movie_scale))
    return fields


def _field(place: int, wide: bool, value: float) -> tuple[int, bytes]:
    return place, struct.pack(">Q" if wide else ">I", min(round(value), (1 << 32) - 2))


# --- a fragment: moof ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FragmentCounts:
    """What one moof holds of each track: track id -> (samples, ticks)."""

    counts: dict[int, tuple[int, int]]


def shift_fragment(moof: bytearray, sequence: int, base: dict[int, int]) -> FragmentCounts:
    """Numbers a whole moof box and moves each track's decode time by its base, in the track's ticks, in place."""
    counts: dict[int, tuple[int, int]] = {}
    track_id = default_ticks = 0
    for one in walk_boxes(moof):
        name = one.path[-1]
        if name == b"mfhd":
            struct.pack_into(">I", moof, one.body + 4, sequence)
        elif name == b"tfhd":
            track_id, default_ticks = _tfhd(moof, one.body)
        elif name == b"tfdt":
            if moof[one.body] != 1:
                raise Damaged("a fragment has 32-bit times")
            (time,) = struct.unpack_from(">Q", moof, one.body + 4)
            struct.pack_into(">Q", moof, one.body + 4, time + base[track_id])
        elif name == b"trun":
            samples, ticks = _trun(moof, one.body, default_ticks)
            before = counts.get(track_id, (0, 0))
            counts[track_id] = (before[0] + samples, before[1] + ticks)
    return FragmentCounts(counts)


def _tfhd(data: bytearray, body: int) -> tuple[int, int]:
    flags, track_id = struct.unpack_from(">II", data, body)
    place = body + 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    ticks = struct.unpack_from(">I", data, place)[0] if flags & 8 else 0
    return track_id, ticks


def _trun(data: bytearray, body: int, default_ticks: int) -> tuple[int, int]:
    flags, count = struct.unpack_from(">II", data, body)
    if not flags & 0x100:
        return count, count * default_ticks
    stride = 4 * (flags & 0xF00).bit_count()
    place = body + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    return count, sum(struct.unpack_from(">I", data, place + k * stride)[0] for k in range(count))
