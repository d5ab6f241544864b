"""The files of one session: record, clips and conversation video. Every function here blocks.

    sessions/<session_id>/
      session.json                the record of truth, replaced atomically
      0001/conversation.mp4       the clips of the first conversation, joined
      0001/clip-0001.mp4 ...      each clip as a file
      0002/ ...                   the conversation after a Reset

Each step first writes files, then replaces the record. A file left by a crash is therefore either named by the record
or unknown, and unknown files are removed at the next start. A video named by the record can be rebuilt from the clips.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from warmtalk.core.bundle_files import write_json
from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import FrameClock
from warmtalk.media import concat
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile, ConversationFileState
from warmtalk.media.h264 import X264Settings
from warmtalk.media.storage import fsync_directory, remove_files, storage_errors
from warmtalk.services.session import session_record as records
from warmtalk.services.session.session_record import (
    ClipRecord,
    ConversationRecord,
    InProgress,
    LostRecord,
    SessionRecord,
)

log = logging.getLogger(__name__)

RECORD = "session.json"
VIDEO = "conversation.mp4"
CRASHED = "the session service ended before the clip was complete"
"""Reason recorded for an utterance lost in a crash."""


def utc_now() -> str:
    """Returns the current time as RFC 3339, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SessionFiles:
    """The files of one session. Changes come from one thread at a time; `record` may be read from any thread.

    A clip is made by `ClipTransaction`, which calls `begin_clip`, `commit_clip` and `discard_clip`.
    """

    def __init__(self, path: Path, record: SessionRecord) -> None:
        self.path = path
        self.record = record

    @classmethod
    def create(cls, path: Path, avatar_id: str, fps: str, x264: X264Settings) -> SessionFiles:
        """Creates the folder and the record. Raises StorageFull."""
        conversation = ConversationRecord(1, x264.preset, x264.crf)
        files = cls(path, SessionRecord(path.name, avatar_id, fps, utc_now(), conversation))
        with storage_errors("making a session"):
            path.mkdir(parents=True, exist_ok=True)
            files._save(files.record)
        return files

    @classmethod
    def open(cls, path: Path) -> SessionFiles:
        """Reads the record and repairs the traces of a crash. Raises Damaged when the record cannot be read."""
        files = cls(path, _read(path))
        files._recover()
        return files

    @property
    def clock(self) -> FrameClock:
        """Frame clock of the session."""
        return self.record.clock

    @property
    def clip_in_progress(self) -> bool:
        """True between `begin_clip` and `commit_clip` or `discard_clip`."""
        return self.record.in_progress is not None

    def video_path(self, conversation: ConversationRecord) -> Path:
        """Returns the path of the video of `conversation`."""
        return self.path / conversation.folder / VIDEO

    def clip_path(self, conversation: ConversationRecord, clip: ClipRecord) -> Path:
        """Returns the path of one clip of `conversation`."""
        return self.path / conversation.folder / clip.file

    def begin_clip(self, text: str, width: int, height: int, x264: X264Settings, *, live: bool = False) -> ClipWriter:
        """Records an utterance in progress and opens the clip (`live` as in ClipWriter).

        `x264` applies to the first clip of a conversation; later clips use the settings of the first.
        Raises NotReady when the frame size differs from the earlier clips; StorageFull.
        """
        conversation = self.record.conversation
        if not conversation.clips:
            conversation = replace(conversation, preset=x264.preset, crf=x264.crf, width=width, height=height)
        elif (conversation.width, conversation.height) != (width, height):
            raise NotReady(
                f"avatar {self.record.avatar_id!r} is now {width} x {height}, the conversation is "
                f"{conversation.width} x {conversation.height}",
                f"Start the next conversation: warmtalk reset --session {self.record.session_id}",
            )
        self._remove_unknown_files(conversation)
        with storage_errors("starting a clip"):
            in_progress = InProgress(text, utc_now())
            self._save(replace(self.record, conversation=conversation, in_progress=in_progress))
            (self.path / conversation.folder).mkdir(exist_ok=True)
        target = self.path / conversation.folder / f"clip-{len(conversation.clips) + 1:04d}.mp4"
        encoder = X264Settings(conversation.preset, conversation.crf)
        return ClipWriter(target, width, height, self.clock, conversation.frames, encoder, live=live)

    def commit_clip(self, clip: ClipFile, text: str | None = None, *, following: int | None = None) -> ClipRecord:
        """Appends a finished clip to the conversation and records the clip.

        `text` replaces the text given to `begin_clip`. `following` is the source index after the last frame of the
        clip; default: the clip continued without a gap from the clip before.
        Raises StorageFull, Damaged, NotReady; the conversation is then unchanged.
        """
        conversation, in_progress = self.record.conversation, self.record.in_progress
        assert in_progress is not None, "commit_clip without begin_clip"
        state = self._append(conversation, clip)
        committed = ClipRecord(
            number=len(conversation.clips) + 1,
            file=clip.path.name,
            text=in_progress.text if text is None else text,
            first_frame=conversation.frames,
            frames=clip.frames,
            samples=clip.samples,
            created=utc_now(),
        )
        if following is None:
            following = conversation.next_index + clip.frames
        clips = (*conversation.clips, committed)
        extended = _with_state(replace(conversation, clips=clips, following=following), state)
        with storage_errors("recording a clip"):
            self._save(replace(self.record, conversation=extended, in_progress=None))
        # An encoder that outlived a killed service may have written a file after `begin_clip`.
        self._remove_unknown_files(extended)
        return committed

    def discard_clip(self, lost: str = "") -> None:
        """Ends the utterance in progress without a clip. Idempotent.

        `lost` is the reason recorded with a lost utterance; an empty reason records nothing.
        """
        in_progress = self.record.in_progress
        if in_progress is None:
            return
        conversation = self.record.conversation
        if lost:
            conversation = conversation.with_lost(LostRecord(in_progress.text, lost, in_progress.started))
        self._remove_unknown_files(conversation)
        ended = replace(self.record, conversation=conversation, in_progress=None)
        try:
            self._save(ended)
        except OSError as error:  # the volume is full: the entry stays on disk and the next start records the loss
            log.warning("session %s: %s", self.record.session_id, error)
            self.record = ended

    def reset(self, x264: X264Settings, *, delete: bool) -> ConversationRecord | None:
        """Closes the conversation and starts the next one. An empty conversation stays open.

        Returns the closed conversation, or None when the conversation was empty or deleted. Raises StorageFull.
        """
        closed = self.record.conversation
        if not closed.clips:
            return None
        fresh = ConversationRecord(closed.number + 1, x264.preset, x264.crf)
        archived = self.record.archived if delete else (*self.record.archived, closed)
        with storage_errors("closing a conversation"):
            self._save(replace(self.record, conversation=fresh, archived=archived, in_progress=None))
        if delete:
            shutil.rmtree(self.path / closed.folder, ignore_errors=True)
        return None if delete else closed

    def delete(self) -> None:
        """Removes the session. The record is removed first: without a record the session no longer exists."""
        (self.path / RECORD).unlink(missing_ok=True)
        shutil.rmtree(self.path)

    def _append(self, conversation: ConversationRecord, clip: ClipFile) -> ConversationFileState:
        video = self.video_path(conversation)
        try:
            return concat.append_clip(video, _state(conversation), clip, self.clock)
        except Damaged:
            if video.exists() and video.stat().st_size >= conversation.size:
                raise
            self._rebuild(conversation)
            return concat.append_clip(video, _state(self.record.conversation), clip, self.clock)

    def _recover(self) -> None:
        conversation, in_progress = self.record.conversation, self.record.in_progress
        if in_progress is not None:
            log.warning("session %s lost an utterance: %r", self.record.session_id, in_progress.text[:80])
            conversation = conversation.with_lost(LostRecord(in_progress.text, CRASHED, in_progress.started))
            self._save(replace(self.record, conversation=conversation, in_progress=None))
        self._remove_unknown_files(conversation)
        self._remove_unknown_folders()
        for one in (conversation, *self.record.archived):
            self._repair_video(one)

    def _repair_video(self, conversation: ConversationRecord) -> None:
        """Cuts off a torn append, or rebuilds the video."""
        try:
            if concat.truncate_torn_append(self.video_path(conversation), _state(conversation), self.clock):
                log.warning("session %s: a torn append was cut off", self.record.session_id)
        except Damaged as error:
            log.warning("session %s: %s", self.record.session_id, error)
            try:
                self._rebuild(conversation)
            except (Damaged, OSError) as cause:
                log.error("session %s cannot be rebuilt: %s", self.record.session_id, cause)

    def _rebuild(self, conversation: ConversationRecord) -> None:
        """Rebuilds the video from the clips and records the new state. Raises Damaged when a clip is missing."""
        clips = [ClipFile(self.clip_path(conversation, one), one.frames, one.samples) for one in conversation.clips]
        missing = [clip.path.name for clip in clips if not clip.path.is_file()]
        if missing:
            raise Damaged(
                f"the conversation of session {self.record.session_id!r} is damaged and {missing[0]} is missing",
                f"Start the next one: warmtalk reset --session {self.record.session_id}",
            )
        state = concat.rebuild_conversation(self.video_path(conversation), clips, self.clock)
        rebuilt = _with_state(conversation, state)
        if conversation.number == self.record.conversation.number:
            self._save(replace(self.record, conversation=rebuilt))
        else:
            archived = tuple(rebuilt if one.number == rebuilt.number else one for one in self.record.archived)
            self._save(replace(self.record, archived=archived))

    def _remove_unknown_files(self, conversation: ConversationRecord) -> None:
        """Removes the files in the folder of `conversation` that no record names."""
        folder = self.path / conversation.folder
        known = {VIDEO, *(clip.file for clip in conversation.clips)} if conversation.clips else set()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in known:
                log.info("session %s: removing %s", self.record.session_id, path.name)
                path.unlink()

    def _remove_unknown_folders(self) -> None:
        known = {one.folder for one in (self.record.conversation, *self.record.archived)}
        for path in self.path.iterdir():
            if path.is_dir() and path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def _save(self, record: SessionRecord) -> None:
        try:
            write_json(self.path / RECORD, records.to_json(record))
        finally:
            remove_files(self.path / f"{RECORD}.tmp")
        fsync_directory(self.path)
        self.record = record


def _read(path: Path) -> SessionRecord:
    try:
        return records.from_json(json.loads((path / RECORD).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"session {path.name!r} is damaged: {RECORD} cannot be read ({error})",
            f"Remove it: warmtalk sessions {path.name} --delete",
        ) from error


def _state(conversation: ConversationRecord) -> ConversationFileState:
    return ConversationFileState(conversation.size, conversation.frames, conversation.samples, conversation.fragments)


def _with_state(conversation: ConversationRecord, state: ConversationFileState) -> ConversationRecord:
    return replace(conversation, size=state.size, frames=state.frames, samples=state.samples, fragments=state.fragments)
