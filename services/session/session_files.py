"""A session on disk: its record, its clips, its conversation video. Everything here blocks.

    sessions/<session_id>/
      session.json                the record of truth, replaced atomically
      0001/conversation.mp4       the clips of the first conversation, joined
      0001/clip-0001.mp4 ...      each clip by itself
      0002/ ...                   the conversation after a Reset

A step first makes its files, then replaces the record: whatever a crash leaves is either recorded, or not there for
anybody and swept away at the next start. A file that a record names can be made again from the clips.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from warmtalk.core.bundle import write_json
from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.types import FrameClock
from warmtalk.media import concat
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile, ConversationFileState
from warmtalk.media.ffmpeg_process import remove_files, storage_errors
from warmtalk.media.h264 import X264Settings
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
CRASHED = "the session service ended while it was being said"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SessionFiles:
    """One session's files. One thread at a time changes it; `record` may be read from any thread."""

    def __init__(self, path: Path, record: SessionRecord) -> None:
        self.path = path
        self.record = record

    @classmethod
    def create(
        cls, path: Path, avatar_id: str, fps: str, x264: X264Settings, *, clock: Callable[[], str] = now
    ) -> SessionFiles:
        """Makes the folder and its record. Raises StorageFull."""
        conversation = ConversationRecord(1, x264.preset, x264.crf)
        folder = cls(path, SessionRecord(path.name, avatar_id, fps, clock(), conversation))
        with storage_errors("making a session"):
            path.mkdir(parents=True, exist_ok=True)
            folder._save(folder.record)
        return folder

    @classmethod
    def open(cls, path: Path) -> SessionFiles:
        """Reads the record and mends what a crash has left. Raises Damaged when the record cannot be read."""
        folder = cls(path, _read(path))
        folder._recover()
        return folder

    @property
    def clock(self) -> FrameClock:
        return self.record.clock

    @property
    def speaking(self) -> bool:
        return self.record.saying is not None

    def video(self, conversation: ConversationRecord) -> Path:
        return self.path / conversation.folder / VIDEO

    def clip_path(self, conversation: ConversationRecord, clip: ClipRecord) -> Path:
        return self.path / conversation.folder / clip.file

    def begin(self, text: str, width: int, height: int, x264: X264Settings, *, live: bool = False) -> ClipWriter:
        """Marks an utterance as under way and opens its clip (`live` as in ClipWriter). Ends with `commit` or
        `give_up`. `x264` counts for a conversation's first clip; the others are coded as that one.

        Raises NotReady when the avatar has another size than in the clips before, StorageFull.
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
        self._sweep(conversation)
        with storage_errors("starting a clip"):
            self._save(replace(self.record, conversation=conversation, saying=InProgress(text, now())))
            (self.path / conversation.folder).mkdir(exist_ok=True)
        target = self.path / conversation.folder / f"clip-{len(conversation.clips) + 1:04d}.mp4"
        encoder = X264Settings(conversation.preset, conversation.crf)
        return ClipWriter(target, width, height, self.clock, conversation.frames, encoder, live=live)

    def commit(self, clip: ClipFile, text: str | None = None, *, following: int | None = None) -> ClipRecord:
        """Joins a finished clip to the conversation and records it; `text` replaces that of `begin`. `following` is the
        source index after its last picture, when it has not simply gone on from the clip before.

        Raises StorageFull, Damaged, NotReady; the conversation is then as before.
        """
        conversation, saying = self.record.conversation, self.record.saying
        assert saying is not None, "commit without begin"
        after = self._append(conversation, clip)
        made = ClipRecord(
            number=len(conversation.clips) + 1,
            file=clip.path.name,
            text=saying.text if text is None else text,
            first_frame=conversation.frames,
            frames=clip.frames,
            samples=clip.samples,
            created=now(),
        )
        if following is None:
            following = conversation.next_index + clip.frames
        longer = _with_state(replace(conversation, clips=(*conversation.clips, made), following=following), after)
        with storage_errors("recording a clip"):
            self._save(replace(self.record, conversation=longer, saying=None))
        self._sweep(longer)  # an encoder that outlived a killed service may have left its file since `begin`
        return made

    def give_up(self, lost: str = "") -> None:
        """Ends an utterance without a clip; `lost` is the reason to be remembered, if it is. Idempotent."""
        if self.record.saying is None:
            return
        conversation = self.record.conversation
        if lost:
            conversation = conversation.with_lost(LostRecord(self.record.saying.text, lost, self.record.saying.started))
        self._sweep(conversation)
        ended = replace(self.record, conversation=conversation, saying=None)
        try:
            self._save(ended)
        except OSError as error:  # the volume is full: the mark stays on disk, the next start reports the loss
            log.warning("session %s: %s", self.record.session_id, error)
            self.record = ended

    def reset(self, x264: X264Settings, *, delete: bool) -> ConversationRecord | None:
        """Closes the conversation; the one that is kept, or None. An empty conversation stays as it is."""
        closed = self.record.conversation
        if not closed.clips:
            return None
        fresh = ConversationRecord(closed.number + 1, x264.preset, x264.crf)
        archived = self.record.archived if delete else (*self.record.archived, closed)
        with storage_errors("closing a conversation"):
            self._save(replace(self.record, conversation=fresh, archived=archived, saying=None))
        if delete:
            shutil.rmtree(self.path / closed.folder, ignore_errors=True)
        return None if delete else closed

    def delete(self) -> None:
        """The record goes first: without it there is no session."""
        (self.path / RECORD).unlink(missing_ok=True)
        shutil.rmtree(self.path)

    def _append(self, conversation: ConversationRecord, clip: ClipFile) -> ConversationFileState:
        video = self.video(conversation)
        try:
            return concat.append_clip(video, _state(conversation), clip, self.clock)
        except Damaged:
            if video.exists() and video.stat().st_size >= conversation.size:
                raise
            self._rebuild(conversation)
            return concat.append_clip(video, _state(self.record.conversation), clip, self.clock)

    def _recover(self) -> None:
        conversation, saying = self.record.conversation, self.record.saying
        if saying is not None:
            log.warning("session %s lost an utterance: %r", self.record.session_id, saying.text[:80])
            conversation = conversation.with_lost(LostRecord(saying.text, CRASHED, saying.started))
            self._save(replace(self.record, conversation=conversation, saying=None))
        self._sweep(conversation)
        self._sweep_folders()
        for one in (conversation, *self.record.archived):
            self._check_video(one)

    def _check_video(self, conversation: ConversationRecord) -> None:
        try:
            if concat.truncate_torn_append(self.video(conversation), _state(conversation), self.clock):
                log.warning("session %s: a torn join was cut off", self.record.session_id)
        except Damaged as error:
            log.warning("session %s: %s", self.record.session_id, error)
            try:
                self._rebuild(conversation)
            except (Damaged, OSError) as cause:
                log.error("session %s cannot be rebuilt: %s", self.record.session_id, cause)

    def _rebuild(self, conversation: ConversationRecord) -> None:
        """Makes the conversation's video again from its clips and records its new state."""
        clips = [ClipFile(self.clip_path(conversation, one), one.frames, one.samples) for one in conversation.clips]
        missing = [clip.path.name for clip in clips if not clip.path.is_file()]
        if missing:
            raise Damaged(
                f"the conversation of session {self.record.session_id!r} is damaged and {missing[0]} is missing",
                f"Start the next one: warmtalk reset --session {self.record.session_id}",
            )
        state = concat.rebuild_conversation(self.video(conversation), clips, self.clock)
        whole = _with_state(conversation, state)
        if conversation.number == self.record.conversation.number:
            self._save(replace(self.record, conversation=whole))
        else:
            archived = tuple(whole if one.number == whole.number else one for one in self.record.archived)
            self._save(replace(self.record, archived=archived))

    def _sweep(self, conversation: ConversationRecord) -> None:
        """Removes what no record names from the running conversation's folder."""
        folder = self.path / conversation.folder
        known = {VIDEO, *(clip.file for clip in conversation.clips)} if conversation.clips else set()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in known:
                log.info("session %s: removing %s", self.record.session_id, path.name)
                path.unlink()

    def _sweep_folders(self) -> None:
        known = {one.folder for one in (self.record.conversation, *self.record.archived)}
        for path in self.path.iterdir():
            if path.is_dir() and path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def _save(self, record: SessionRecord) -> None:
        try:
            write_json(self.path / RECORD, records.to_json(record))
        finally:
            remove_files(self.path / f"{RECORD}.tmp")
        concat.fsync_directory(self.path)
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
