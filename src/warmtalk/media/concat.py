"""Joins clips to one conversation file by copy, at a cost that does not grow with the conversation.

`ffmpeg -f concat -c copy` cuts the new clip into fragments on a pipe. The fragments' times are moved to the end of the
conversation in exact ticks, and the fragments are appended. ftyp and moov come once, from the first clip; the duration
stands in the head of the file and is updated in place. Everything here blocks: call from a worker thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ffmpeg
from ffmpeg.nodes import OutputStream

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock
from warmtalk.media import mp4_boxes
from warmtalk.media.ffmpeg_command import STDIN, STDOUT
from warmtalk.media.ffmpeg_process import FfmpegProcess, run_ffmpeg
from warmtalk.media.storage import fsync_directory, publish_file, remove_files, storage_errors

_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16
_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer"


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A finished clip. Audio and video end together: `samples` is the clock's count for `frames`, at 48 kHz."""

    path: Path
    frames: int
    samples: int


@dataclass(frozen=True, slots=True)
class ConversationFileState:
    """Recorded state of a conversation file. Data beyond `size` bytes is a torn append."""

    size: int = 0
    frames: int = 0
    samples: int = 0
    fragments: int = 0


def append_clip(
    target: Path, before: ConversationFileState, clip: ClipFile, clock: FrameClock
) -> ConversationFileState:
    """Appends the clip to the conversation file. Returns the new state when the file is on disk.

    Cuts the file to `before.size` first, which repairs a torn append, and again when the append fails. Raises Damaged
    (the file is shorter than recorded, or the clip is not as described), NotReady (the clip's encoding differs from
    the clips before), StorageFull.
    """
    with storage_errors("joining a clip to the conversation"):
        truncate_torn_append(target, before, clock)
        with open(target, "r+b" if before.size else "w+b") as file:
            try:
                after = _append_fragments(file, before, clip, clock)
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
    """Brings the file to the recorded state. Returns True when the file was longer.

    Raises Damaged when the file is shorter than recorded: call `rebuild_conversation`.
    """
    size = target.stat().st_size if target.exists() else 0
    if size < state.size:
        raise Damaged(
            f"{target.name} has {size} bytes, {state.size} are recorded", "The file is rebuilt from its clips"
        )
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
    """Builds the conversation file anew from its clips, byte for byte. Replaces the old file at the end."""
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
    """Writes an MP4 with the index in front. Video is copied; audio is encoded once, as AAC.

    With `indexed` audio becomes FLAC, equal sample by sample. `target` appears when the file is complete. Raises
    StorageFull, NotReady.
    """
    activity = "exporting the conversation"
    temporary = target.with_name(target.name + ".tmp")
    try:
        run_ffmpeg(_export_output(conversation, temporary, indexed), activity)
        publish_file(temporary, target, activity)
    finally:
        remove_files(temporary)


def _append_fragments(
    file: IO[bytes], before: ConversationFileState, clip: ClipFile, clock: FrameClock
) -> ConversationFileState:
    child = FfmpegProcess(_fragment_output(), stdin=True, stdout=True)
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


def _fragment_output() -> OutputStream:
    clip = ffmpeg.input(STDIN, f="concat", safe=0, protocol_whitelist="file,pipe,fd")
    return ffmpeg.output(
        clip["v:0"],
        clip["a:0"],
        STDOUT,
        f="mp4",
        c="copy",
        strict=-2,
        fflags="+bitexact",
        movie_timescale=1000,
        movflags=_MOVFLAGS,
    )


def _export_output(conversation: Path, target: Path, indexed: bool) -> OutputStream:
    # FLAC is encoded anew: ffmpeg 5.1 loses the last packet when it copies FLAC out of fragments.
    flac = {"acodec": "flac", "sample_fmt": "s16", "strict": -2}
    audio = flac if indexed else {"acodec": "aac", "audio_bitrate": "160k"}
    source = ffmpeg.input(f"file:{conversation.absolute()}", f="mov")
    return ffmpeg.output(
        source["v:0"], source["a:0"], f"file:{target}", f="mp4", vcodec="copy", movflags="+faststart", **audio
    )


def _concat_list(path: Path) -> bytes:
    """Returns the list file of ffmpeg's concat demuxer for one clip."""
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
            _copy_box(stream, file, name, size)
            continue
        box = mp4_boxes.build_box(name, mp4_boxes.read_body(stream, size))
        if name == b"moof":
            fragments += 1
            moof = bytearray(box)
            for track, (samples, ticks) in mp4_boxes.shift_fragment(moof, fragments, base).items():
                total = counts.get(track, (0, 0))
                counts[track] = (total[0] + samples, total[1] + ticks)
            file.write(moof)
        elif name == b"moov":
            tracks = mp4_boxes.parse_tracks(box)
            base = {track.track_id: _end_ticks(track, before, clock) for track in tracks}
            _check_tracks(file, before, tracks)
            if not before.size:
                file.write(mp4_boxes.appendable_moov(box))
        elif name == b"ftyp" and not before.size:
            file.write(box)
    _check_counts(tracks, counts, clip)
    return ConversationFileState(file.tell(), before.frames + clip.frames, before.samples + clip.samples, fragments)


def _end_ticks(track: mp4_boxes.Mp4Track, before: ConversationFileState, clock: FrameClock) -> int:
    """Returns the end of the conversation in ticks of the track."""
    if track.kind == b"soun":
        return before.samples
    ticks = before.frames * track.timescale / clock.fps
    if ticks.denominator != 1:
        raise Damaged(f"frames of {clock.fps} fps do not fit a time scale of {track.timescale}")
    return int(ticks)


def _check_tracks(file: IO[bytes], before: ConversationFileState, tracks: list[mp4_boxes.Mp4Track]) -> None:
    """Raises Damaged or NotReady unless the clip's tracks continue the tracks of the conversation."""
    if [track.kind for track in tracks] != [b"vide", b"soun"] or tracks[1].timescale != CLIP_RATE_HZ:
        raise Damaged("the clip is not one video track and one 48 kHz audio track")
    if not before.size:
        return
    offset = file.tell()
    if tracks != mp4_boxes.parse_tracks(_read_head(file)[1]):
        raise NotReady(
            "the clip does not fit the conversation: the encoder has changed since its first clip",
            "Reset the session; the next conversation takes the new one",
        )
    file.seek(offset)


def _check_counts(tracks: list[mp4_boxes.Mp4Track], counts: dict[int, tuple[int, int]], clip: ClipFile) -> None:
    by_kind = {track.kind: counts.get(track.track_id, (0, 0)) for track in tracks}
    frames, samples = by_kind.get(b"vide", (0, 0))[0], by_kind.get(b"soun", (0, 0))[1]
    if (frames, samples) != (clip.frames, clip.samples):
        raise Damaged(
            f"{clip.path.name} holds {frames} frames and {samples} samples, not {clip.frames} and {clip.samples}"
        )


def _copy_box(stream: IO[bytes], file: IO[bytes], name: bytes, size: int) -> None:
    header = mp4_boxes.build_box(name, b"")
    file.write((size + len(header)).to_bytes(4, "big") + header[4:])
    left = size
    while left:
        chunk = stream.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise Damaged("an MP4 box is cut short")
        file.write(chunk)
        left -= len(chunk)


def _read_head(file: IO[bytes]) -> tuple[bytes, bytes]:
    """Returns (ftyp, moov) from the start of a conversation file."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    ftyp_bytes = int.from_bytes(head[:4], "big")
    moov_bytes = int.from_bytes(head[ftyp_bytes : ftyp_bytes + 4], "big")
    return head[:ftyp_bytes], head[ftyp_bytes : ftyp_bytes + moov_bytes]


def _write_duration(file: IO[bytes], seconds: float) -> None:
    for offset, value in mp4_boxes.duration_fields(b"".join(_read_head(file)), seconds):
        file.seek(offset)
        file.write(value)
    file.flush()
