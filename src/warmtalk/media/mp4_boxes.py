"""Reads and changes the boxes of fragmented MP4 (ISO/IEC 14496-12). Numbers are big-endian."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from warmtalk.core.errors import Damaged

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex"}
_FIELD_BYTES = {b"stsd": 8, b"avc1": 78, b"fLaC": 28}
"""Containers with fields of their own: name -> bytes of fields in front of the first child."""
_MAX_BODY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Mp4Box:
    """Position of a box within a buffer. All offsets are in bytes from the start of the buffer."""

    path: tuple[bytes, ...]
    """Names of the parents, then the box's own name."""
    start: int
    """Offset of the header."""
    body: int
    end: int


def walk_boxes(
    data: bytes | bytearray, start: int = 0, end: int | None = None, path: tuple[bytes, ...] = ()
) -> list[Mp4Box]:
    """Returns every box of data[start:end], parents before their children. Raises Damaged for an impossible size."""
    end = len(data) if end is None else end
    boxes: list[Mp4Box] = []
    while start < end:
        if end - start < 8:
            raise Damaged("an MP4 box is cut short")
        size, name = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= end - start:
            raise Damaged(f"an MP4 box {name!r} claims {size} bytes")
        box_path = (*path, name)
        boxes.append(Mp4Box(box_path, start, start + 8, start + size))
        if name in _CONTAINERS or name in _FIELD_BYTES:
            boxes += walk_boxes(data, start + 8 + _FIELD_BYTES.get(name, 0), start + size, box_path)
        start += size
    return boxes


def top_level_boxes(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields (name, bytes of the body) of each box. The caller reads the body before the next step."""
    while head := stream.read(8):
        if len(head) < 8:
            raise Damaged("an MP4 file is cut short")
        size, name = struct.unpack(">I4s", head)
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            size -= 8
        yield name, size - 8


def is_complete(path: Path) -> bool:
    """Returns True when the file has a moov and no box is cut short."""
    size, offset, names = path.stat().st_size, 0, set()
    with open(path, "rb") as file:
        while size - offset >= 8:
            file.seek(offset)
            name, body = next(top_level_boxes(file))
            if body < 0:
                return False
            names.add(name)
            offset = file.tell() + body
    return offset == size and b"moov" in names


def read_body(stream: IO[bytes], size: int) -> bytes:
    """Returns a body of `size` bytes. Raises Damaged when the stream ends before, or the size is unreasonable."""
    data = stream.read(size) if 0 <= size <= _MAX_BODY_BYTES else b""
    if len(data) != size:
        raise Damaged("an MP4 box is cut short")
    return data


def build_box(name: bytes, body: bytes | bytearray) -> bytes:
    """Returns a box of this name and body, with a 32-bit size."""
    return struct.pack(">I4s", len(body) + 8, name) + body


# --- the head of a conversation: ftyp and moov ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mp4Track:
    """One track as described by the moov."""

    track_id: int
    timescale: int
    """Ticks per second."""
    kind: bytes
    """b"vide" or b"soun"."""
    codec: bytes
    """Decoder parameters: the body of avcC, or rate, channels and bit depth of dfLa."""


def parse_tracks(moov: bytes | bytearray) -> list[Mp4Track]:
    """Returns the tracks of a whole moov box, header included."""
    boxes = walk_boxes(moov)
    tracks: list[Mp4Track] = []
    for trak in (box for box in boxes if box.path[-1] == b"trak"):
        parts = {box.path[-1]: box for box in boxes if trak.start <= box.start < trak.end}
        wide = 8 if moov[parts[b"tkhd"].body] else 0
        (track_id,) = struct.unpack_from(">I", moov, parts[b"tkhd"].body + 12 + wide)
        wide = 8 if moov[parts[b"mdhd"].body] else 0
        (timescale,) = struct.unpack_from(">I", moov, parts[b"mdhd"].body + 12 + wide)
        kind = bytes(moov[parts[b"hdlr"].body + 8 : parts[b"hdlr"].body + 12])
        tracks.append(Mp4Track(track_id, timescale, kind, _codec_parameters(moov, parts)))
    return tracks


def _codec_parameters(moov: bytes | bytearray, parts: dict[bytes, Mp4Box]) -> bytes:
    if b"avcC" in parts:
        return bytes(moov[parts[b"avcC"].body : parts[b"avcC"].end])
    if b"dfLa" in parts:
        offset = parts[b"dfLa"].body + _STREAMINFO + 10
        return bytes(moov[offset : offset + 3]) + bytes([moov[offset + 3] & 0xF0])
    return b""


_STREAMINFO = 8
"""Offset of FLAC's STREAMINFO in a dfLa body, behind version and flags and the metadata block header."""


def appendable_moov(moov: bytes) -> bytes:
    """Converts the moov of one clip to the moov of a file that grows: adds a duration field, removes clip properties.

    FLAC's STREAMINFO holds the clip's number of samples, frame sizes and MD5. All three may be 0, which means unknown;
    the block size gets the whole range that the format allows.
    """
    data = bytearray(moov)
    for box in walk_boxes(data):
        if box.path[-1] == b"dfLa":
            offset = box.body + _STREAMINFO
            struct.pack_into(">HH6x", data, offset, 16, 65535)
            data[offset + 13] &= 0xF0
            data[offset + 14 : offset + 34] = bytes(20)
    if not any(box.path[-1] == b"mehd" for box in walk_boxes(data)):
        mvex = next(box for box in walk_boxes(data) if box.path[-1] == b"mvex")
        mehd = build_box(b"mehd", struct.pack(">IQ", 1 << 24, 0))
        data[mvex.body : mvex.body] = mehd
        for start in (mvex.start, 0):
            (size,) = struct.unpack_from(">I", data, start)
            struct.pack_into(">I", data, start, size + len(mehd))
    return bytes(data)


def duration_fields(head: bytes, seconds: float) -> list[tuple[int, bytes]]:
    """Returns (byte offset, value) of every field in ftyp + moov that gives players the duration of the file."""
    fields: list[tuple[int, bytes]] = []
    movie_scale = 1000
    for box in walk_boxes(head):
        name, wide = box.path[-1], bool(head[box.body])
        if name == b"mvhd":
            (movie_scale,) = struct.unpack_from(">I", head, box.body + (20 if wide else 12))
            fields.append(_duration_field(box.body + (24 if wide else 16), wide, seconds * movie_scale))
        elif name == b"tkhd":
            fields.append(_duration_field(box.body + (28 if wide else 20), wide, seconds * movie_scale))
        elif name == b"mehd":
            fields.append(_duration_field(box.body + 4, wide, seconds * movie_scale))
    return fields


def _duration_field(offset: int, wide: bool, value: float) -> tuple[int, bytes]:
    return offset, struct.pack(">Q" if wide else ">I", min(round(value), (1 << 32) - 2))


# --- a fragment: moof ----------------------------------------------------------------------------------------------


def shift_fragment(moof: bytearray, sequence: int, base: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Sets the sequence number of a whole moof box and adds `base` to the decode times, in place.

    `base`: track id -> offset in the track's ticks. Returns track id -> (samples, ticks) of the fragment.
    """
    counts: dict[int, tuple[int, int]] = {}
    track_id = default_ticks = 0
    for box in walk_boxes(moof):
        name = box.path[-1]
        if name == b"mfhd":
            struct.pack_into(">I", moof, box.body + 4, sequence)
        elif name == b"tfhd":
            track_id, default_ticks = _read_tfhd(moof, box.body)
        elif name == b"tfdt":
            if moof[box.body] != 1:
                raise Damaged("a fragment has 32-bit times")
            (time,) = struct.unpack_from(">Q", moof, box.body + 4)
            struct.pack_into(">Q", moof, box.body + 4, time + base[track_id])
        elif name == b"trun":
            samples, ticks = _read_trun(moof, box.body, default_ticks)
            total = counts.get(track_id, (0, 0))
            counts[track_id] = (total[0] + samples, total[1] + ticks)
    return counts


def _read_tfhd(data: bytearray, body: int) -> tuple[int, int]:
    """Returns (track id, default ticks per sample; 0 when not given)."""
    flags, track_id = struct.unpack_from(">II", data, body)
    offset = body + 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    ticks = struct.unpack_from(">I", data, offset)[0] if flags & 8 else 0
    return track_id, ticks


def _read_trun(data: bytearray, body: int, default_ticks: int) -> tuple[int, int]:
    """Returns (samples, ticks) of a track run."""
    flags, count = struct.unpack_from(">II", data, body)
    if not flags & 0x100:
        return count, count * default_ticks
    stride = 4 * (flags & 0xF00).bit_count()
    offset = body + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    return count, sum(struct.unpack_from(">I", data, offset + k * stride)[0] for k in range(count))
