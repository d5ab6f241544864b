"""Writes the fragments of a live MP4: one moof and its mdat (ISO/IEC 14496-12). Pure; numbers are big-endian."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from warmtalk.media.mp4_boxes import build_box

_DEFAULT_BASE_IS_MOOF = 0x020000
_OFFSET_DURATION_SIZE_FLAGS = 0x000701
_SYNC, _NOT_SYNC = 0x02000000, 0x01010000
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_SLICES = range(1, 6)
"""NAL unit types of coded pictures; parameter sets stand in the moov."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded frame or block of audio."""

    data: bytes
    duration_ticks: int
    keyframe: bool


@dataclass(frozen=True, slots=True)
class TrackRun:
    """Consecutive packets of one track."""

    track_id: int
    start_ticks: int
    """Decode time of the first packet."""
    packets: Sequence[Packet]


def build_fragment(number: int, runs: Sequence[TrackRun]) -> bytes:
    """Returns a moof and its mdat. `number` counts a file's fragments from 1; runs without packets are left out."""
    runs = [run for run in runs if run.packets]
    size = len(_moof(number, runs, 0))
    data = b"".join(packet.data for run in runs for packet in run.packets)
    return _moof(number, runs, size + 8) + build_box(b"mdat", data)


def annex_b_to_avcc(annex_b: bytes) -> bytes:
    """Returns the slices of an H.264 picture as MP4 stores slices: with a 4-byte length instead of a start code."""
    units = (unit for unit in _START_CODE.split(annex_b) if unit and unit[0] & 0x1F in _SLICES)
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def _moof(number: int, runs: Sequence[TrackRun], offset: int) -> bytes:
    """Returns the moof. `offset` is the distance in bytes from the moof to the first run's data."""
    parts = [build_box(b"mfhd", struct.pack(">II", 0, number))]
    for run in runs:
        parts.append(_traf(run, offset))
        offset += sum(len(packet.data) for packet in run.packets)
    return build_box(b"moof", b"".join(parts))


def _traf(run: TrackRun, offset: int) -> bytes:
    tfhd = build_box(b"tfhd", struct.pack(">II", _DEFAULT_BASE_IS_MOOF, run.track_id))
    tfdt = build_box(b"tfdt", struct.pack(">IQ", 1 << 24, run.start_ticks))
    head = struct.pack(">IIi", _OFFSET_DURATION_SIZE_FLAGS, len(run.packets), offset)
    rows = b"".join(
        struct.pack(">III", packet.duration_ticks, len(packet.data), _SYNC if packet.keyframe else _NOT_SYNC)
        for packet in run.packets
    )
    return build_box(b"traf", tfhd + tfdt + build_box(b"trun", head + rows))
