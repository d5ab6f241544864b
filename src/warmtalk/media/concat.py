"""Clips joined to one conversation by copy, at a cost that does not grow with the conversation.

`ffmpeg -f concat -c copy` cuts the new clip into fragments on a pipe; their times are moved to the end of the
conversation in exact ticks and the fragments are appended. ftyp and moov come once, from the first clip; the length
of the file stands in its head and is updated in place. Everything here blocks: call it from a worker thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock
from warmtalk.media import mp4_boxes
from warmtalk.media.ffmpeg_process import FfmpegProcess, remove_files, run_ffmpeg, storage_errors

_PIECE = 1 << 20
_HEAD_BYTES = 1 << 16
_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer"


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A finished clip. Sound and picture end together: `samples` is what the clock gives `frames`."""

    path: Path
    frames: int
    samples: int


@dataclass(frozen=True, slots=True)
class ConversationFileState:
    """State of a conversation file; what lies behind `size` bytes is a torn append."""

    size: int = 0
    frames: int = 0
    samples: int = 0
    fragments: int = 0


def append_clip(
    target: Path, before: ConversationFileState, clip: ClipFile, clock: FrameClock
) -> ConversationFileState:
    """Appends the clip to the conversation file and returns its new state; the file is on disk when it returns.

    First cuts the file to `before.size`, which mends a torn append; cuts it again when something goes wrong.
    Raises Damaged (the file is shorter than recorded, or the clip is not what it should be), NotReady (the clip does
    not fit the ones before it), StorageFull.
    """
    with storage_errors("joining a clip to the conversation"):
        truncate_torn_append(target, before, clock)
        with open(target, "r+b" if before.size else "w+b") as file:
            try:
                after = _append(file, before, clip, clock)
            except BaseException:
                file.truncate(before.size)
                raise
            file.flush()
            os.fsync(file.fileno())
            _write_duration(file, clock.seconds_at(after.frames))
            os.fsync(file.fileno())
        if not before.size:
            fsync_directory(target.parent)
    return after


def truncate_torn_append(target: Path, state: ConversationFileState, clock: FrameClock) -> bool:
    """Brings the file to the recorded state; true when there was something behind it. Raises Damaged when it is
    shorter than recorded: `rebuild_conversation` it.
    """
    size = target.stat().st_size if target.exists() else 0
    if size < state.size:
        raise Damaged(f"{target.name} has {size} bytes, {state.size} are recorded", "It is rebuilt from its clips")
    if size == state.size:
        return False
    if not state.size:
        remove_files(target)
        return True
    with open(target, "r+b") as file:
        file.truncate(state.size)
        _write_duration(file, clock.seconds_at(state.frames))
        os.fsync(file.fileno())
    return True


def rebuild_conversation(target: Path, clips: list[ClipFile], clock: FrameClock) -> ConversationFileState:
    """Makes the conversation file again, byte for byte, out of its clips; the old one is replaced at the end."""
    fresh = target.with_name(target.name + ".rebuild")
    remove_files(fresh)
    state = ConversationFileState()
    try:
        for clip in clips:
            state = append_clip(fresh, state, clip, clock)
        if clips:
            fresh.replace(target)
        else:
            remove_files(target)
        fsync_directory(target.parent)
    finally:
        remove_files(fresh)
    return state


def export_conversation(conversation: Path, target: Path, *, indexed: bool = False) -> None:
    """An MP4 with its index in front: video copied, sound encoded once as AAC, or as FLAC, sample by sample the same,
    with `indexed`.

    Atomic: `target` appears when it is whole. Raises StorageFull, NotReady.
    """
    temporary = target.with_name(target.name + ".tmp")
    # FLAC is encoded anew: ffmpeg 5.1 loses the last packet when it copies FLAC out of fragments.
    flac = ["-c:a", "flac", "-sample_fmt", "s16", "-strict", "-2"]
    sound = flac if indexed else ["-c:a", "aac", "-b:a", "160k"]
    source = ["-f", "mov", "-i", f"file:{conversation.absolute()}", "-map", "0:v:0", "-map", "0:a:0"]
    try:
        run_ffmpeg(
            [*source, "-c:v", "copy", *sound, "-movflags", "+faststart", "-f", "mp4", "-y", f"file:{temporary}"],
            "exporting the conversation",
        )
        publish_file(temporary, target, "exporting the conversation")
    finally:
        remove_files(temporary)


def publish_file(temporary: Path, target: Path, doing: str) -> None:
    """Puts a finished file in its place so that it is there, whole, after a power cut. Raises StorageFull."""
    with storage_errors(doing):
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        fsync_directory(target.parent)


def fsync_directory(folder: Path) -> None:
    """Makes names in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _append(file: IO[bytes], before: ConversationFileState, clip: ClipFile, clock: FrameClock) -> ConversationFileState:
    child = FfmpegProcess(_fragment_args(), stdin=True, stdout=True)
    try:
        child.stdin.write(_concat_list(clip.path))
        child.close_stdin()
        try:
            after = _copy_fragments(child.stdout, file, before, clip, clock)
        except Damaged as error:
            raise (child.exit_error("joining a clip", status) if (status := child.wait()) else error) from error
        child.check_exit("joining a clip")
        return after
    finally:
        child.kill()


def _fragment_args() -> list[str]:
    source = ["-f", "concat", "-safe", "0", "-protocol_whitelist", "file,pipe,fd", "-i", "pipe:0"]
    copy = ["-map", "0:v:0", "-map", "0:a:0", "-c", "copy", "-strict", "-2", "-fflags", "+bitexact"]
    return [*source, *copy, "-movie_timescale", "1000", "-movflags", _MOVFLAGS, "-f", "mp4", "pipe:1"]


def _concat_list(path: Path) -> bytes:
    quoted = str(path.absolute()).replace("'", "'\\''")
    return os.fsencode(f"file 'file:{quoted}'\n")


def _copy_fragments(
    stream: IO[bytes], file: IO[bytes], before: ConversationFileState, clip: ClipFile, clock: FrameClock
) -> ConversationFileState:
    file.seek(before.size)
    counts: dict[int, tuple[int, int]] = {}
    tracks: list[mp4_boxes.Mp4Track] = []
    base: dict[int, int] = {}
    fragments = before.fragments
    for name, size in mp4_boxes.top_level_boxes(stream):
        if name == b"mdat":
            _copy(stream, file, name, size)
            continue
        whole = mp4_boxes.build_box(name, mp4_boxes.read_body(stream, size))
        if name == b"moof":
            fragments += 1
            moof = bytearray(whole)
            for track, (samples, ticks) in mp4_boxes.shift_fragment(moof, fragments, base).counts.items():
                old = counts.get(track, (0, 0))
                counts[track] = (old[0] + samples, old[1] + ticks)
            file.write(moof)
        elif name == b"moov":
            tracks = mp4_boxes.parse_tracks(whole)
            base = {track.track_id: _ticks(track, before, clock) for track in tracks}
            _check_fit(file, before, tracks)
            if not before.size:
                file.write(mp4_boxes.appendable_moov(whole))
        elif name == b"ftyp" and not before.size:
            file.write(whole)
    _check_counts(tracks, counts, clip)
    return ConversationFileState(file.tell(), before.frames + clip.frames, before.samples + clip.samples, fragments)


def _ticks(track: mp4_boxes.Mp4Track, before: ConversationFileState, clock: FrameClock) -> int:
    """Where the conversation ends, in ticks of the track."""
    if track.kind == b"soun":
        return before.samples
    ticks = before.frames * track.timescale / clock.fps
    if ticks.denominator != 1:
        raise Damaged(f"frames of {clock.fps} fps do not fit a time scale of {track.timescale}")
    return int(ticks)


def _check_fit(file: IO[bytes], before: ConversationFileState, tracks: list[mp4_boxes.Mp4Track]) -> None:
    if [track.kind for track in tracks] != [b"vide", b"soun"] or tracks[1].timescale != CLIP_RATE_HZ:
        raise Damaged("the clip is not one video and one 48 kHz sound track")
    if not before.size:
        return
    place = file.tell()
    if tracks != mp4_boxes.parse_tracks(_head(file)[1]):
        raise NotReady(
            "the clip does not fit the conversation: the encoder has changed since its first clip",
            "Reset the session; the next conversation takes the new one",
        )
    file.seek(place)


def _check_counts(tracks: list[mp4_boxes.Mp4Track], counts: dict[int, tuple[int, int]], clip: ClipFile) -> None:
    found = {track.kind: counts.get(track.track_id, (0, 0)) for track in tracks}
    frames, samples = found.get(b"vide", (0, 0))[0], found.get(b"soun", (0, 0))[1]
    if (frames, samples) != (clip.frames, clip.samples):
        raise Damaged(
            f"{clip.path.name} holds {frames} frames and {samples} samples, not {clip.frames} and {clip.samples}"
        )


def _copy(stream: IO[bytes], file: IO[bytes], name: bytes, size: int) -> None:
    head = mp4_boxes.build_box(name, b"")
    file.write((size + len(head)).to_bytes(4, "big") + head[4:])
    left = size
    while left:
        piece = stream.read(min(left, _PIECE))
        if not piece:
            raise Damaged("an MP4 box is cut short")
        file.write(piece)
        left -= len(piece)


def _head(file: IO[bytes]) -> tuple[bytes, bytes]:
    """(ftyp, moov) at the start of a conversation file."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    ftyp_bytes = int.from_bytes(head[:4], "big")
    moov_bytes = int.from_bytes(head[ftyp_bytes : ftyp_bytes + 4], "big")
    return head[:ftyp_bytes], head[ftyp_bytes : ftyp_bytes + moov_bytes]


def _write_duration(file: IO[bytes], seconds: float) -> None:
    for place, value in mp4_boxes.duration_fields(b"".join(_head(file)), seconds):
        file.seek(place)
        file.write(value)
    file.flush()
