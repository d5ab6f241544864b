"""The files of a session: after any interruption the next start finds a whole conversation and records the loss."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.media import decode_video, numbered_frame, tone
from warmtalk.core.errors import Damaged, NotReady, StorageFull
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.services.session import session_record as records
from warmtalk.services.session.session_files import CRASHED, SessionFiles

ENCODER = X264Settings("ultrafast", 23)


def create(path: Path) -> SessionFiles:
    return SessionFiles.create(path / "s1", "ann", "25", ENCODER)


def write_clip_frames(session: SessionFiles, text: str, frames: int) -> ClipWriter:
    writer = session.begin_clip(text, 64, 48, ENCODER)
    for number in range(frames):
        writer.write_bgr(numbered_frame(number))
    writer.write_audio(tone(1920 * frames))
    return writer


def append_clip(session: SessionFiles, text: str, frames: int = 5) -> None:
    session.commit_clip(write_clip_frames(session, text, frames).finish())


def video(session: SessionFiles) -> Path:
    return session.video_path(session.record.conversation)


def file_names(session: SessionFiles) -> set[str]:
    return {str(path.relative_to(session.path)) for path in session.path.rglob("*") if path.is_file()}


def test_clips_follow_each_other(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one", 5)
    append_clip(session, "two", 7)
    conversation = session.record.conversation
    assert [(clip.number, clip.text, clip.first_frame, clip.frames) for clip in conversation.clips] == [
        (1, "one", 0, 5),
        (2, "two", 5, 7),
    ]
    assert (conversation.frames, conversation.samples) == (12, 12 * 1920)
    assert len(decode_video(video(session)).frames) == 12
    assert file_names(session) == {
        "session.json",
        "0001/conversation.mp4",
        "0001/clip-0001.mp4",
        "0001/clip-0002.mp4",
    }
    assert SessionFiles.open(session.path).record == session.record


def test_record_is_plain_json(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "Grüße 你好")
    raw = json.loads((session.path / "session.json").read_text("utf-8"))
    assert raw["conversation"]["clips"][0]["text"] == "Grüße 你好"
    assert records.from_json(raw) == session.record


def test_keys_of_the_record_stay(tmp_path: Path) -> None:
    """Sessions on disk are read by other versions: the keys are part of the format."""
    session = create(tmp_path)
    writer = session.begin_clip("some words", 64, 48, ENCODER)
    raw = json.loads((session.path / "session.json").read_text("utf-8"))
    assert list(raw) == ["session_id", "avatar_id", "fps", "created", "conversation", "archived", "saying", "schema"]
    assert raw["saying"]["text"] == "some words"
    assert records.from_json(raw) == session.record
    writer.abort()


def test_crash_while_recording(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "kept")
    whole = video(session).read_bytes()
    writer = write_clip_frames(session, "lost words", 3)
    after = SessionFiles.open(session.path)  # as a new process does
    writer.abort()
    assert after.record.in_progress is None
    assert [(one.text, one.reason) for one in after.record.conversation.lost] == [("lost words", CRASHED)]
    assert after.record.conversation.lost[0].started.endswith("Z")
    assert video(after).read_bytes() == whole
    assert file_names(after) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    append_clip(after, "next")
    assert len(decode_video(video(after)).frames) == 10
    assert len(SessionFiles.open(session.path).record.conversation.lost) == 1, "recorded once"


def test_crash_between_append_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = create(tmp_path)
    append_clip(session, "kept")
    whole = video(session).read_bytes()
    writer = write_clip_frames(session, "appended but not recorded", 5)
    clip = writer.finish()
    with monkeypatch.context() as patch:
        patch.setattr(SessionFiles, "_save", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            session.commit_clip(clip)
    assert len(video(session).read_bytes()) > len(whole)
    after = SessionFiles.open(session.path)
    assert video(after).read_bytes() == whole
    assert [one.text for one in after.record.conversation.lost] == ["appended but not recorded"]
    assert "0001/clip-0002.mp4" not in file_names(after)


def _power_cut(*args: object) -> None:
    raise KeyboardInterrupt


def test_truncated_video_is_rebuilt(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one")
    append_clip(session, "two")
    whole = video(session).read_bytes()
    os.truncate(video(session), len(whole) // 2)
    SessionFiles.open(session.path)
    assert video(session).read_bytes() == whole
    video(session).unlink()
    append_clip(session, "three, while the service runs")
    assert len(decode_video(video(session)).frames) == 15


def test_video_and_clip_are_gone(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one")
    video(session).unlink()
    (session.path / "0001" / "clip-0001.mp4").unlink()
    after = SessionFiles.open(session.path)
    writer = write_clip_frames(after, "two", 2)
    with pytest.raises(Damaged, match=r"clip-0001.mp4 is missing\. Start the next one: warmtalk reset --session s1"):
        after.commit_clip(writer.finish())
    after.discard_clip()
    assert after.reset(ENCODER, delete=False) is not None
    append_clip(after, "three")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', "null"])
def test_damaged_record(tmp_path: Path, text: str) -> None:
    session = create(tmp_path)
    (session.path / "session.json").write_text(text)
    with pytest.raises(Damaged, match=r"session 's1' is damaged: session.json cannot be read .*Remove it"):
        SessionFiles.open(session.path)


def test_discarded_clip_leaves_nothing(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "kept")
    before = session.record
    writer = write_clip_frames(session, "discarded", 3)
    writer.abort()
    session.discard_clip()
    session.discard_clip()
    assert session.record == before
    assert file_names(session) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


def test_full_disk_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = create(tmp_path)
    writer = write_clip_frames(session, "too much", 3)
    clip = writer.finish()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("warmtalk.services.session.session_files.write_json", full)
        with pytest.raises(StorageFull, match=r"the volume is full \(while recording a clip\)"):
            session.commit_clip(clip)
        session.discard_clip("the volume is full")
    assert session.record.in_progress is None
    assert session.record.conversation.lost[0].reason == "the volume is full"
    assert SessionFiles.open(session.path).record.conversation.lost[0].reason == CRASHED, "the record on disk"


def test_reset_keeps_or_deletes(tmp_path: Path) -> None:
    session = create(tmp_path)
    assert session.reset(ENCODER, delete=False) is None
    assert session.record.conversation.number == 1, "an empty conversation stays open"
    append_clip(session, "one")
    closed = session.reset(ENCODER, delete=False)
    assert closed is not None
    assert session.video_path(closed).is_file()
    append_clip(session, "two")
    assert session.record.conversation.number == 2
    assert session.record.conversation.clips[0].first_frame == 0
    assert session.reset(ENCODER, delete=True) is None
    assert [one.number for one in session.record.archived] == [1]
    assert file_names(SessionFiles.open(session.path)) == {
        "session.json",
        "0001/conversation.mp4",
        "0001/clip-0001.mp4",
    }


def test_unknown_folder_is_removed(tmp_path: Path) -> None:
    session = create(tmp_path)
    (session.path / "0007").mkdir()
    (session.path / "0007" / "clip-0001.mp4").write_bytes(b"x")
    assert file_names(SessionFiles.open(session.path)) == {"session.json"}


def test_encoder_is_fixed_for_a_conversation(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one")
    session.begin_clip("two", 64, 48, X264Settings("medium", 40)).abort()
    assert (session.record.conversation.preset, session.record.conversation.crf) == ("ultrafast", 23)
    session.discard_clip()
    session.reset(X264Settings("medium", 40), delete=False)
    assert session.record.conversation.preset == "medium"


def test_avatar_of_another_size(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one")
    with pytest.raises(NotReady, match=r"avatar 'ann' is now 128 x 96, the conversation is 64 x 48\. .*warmtalk reset"):
        session.begin_clip("two", 128, 96, ENCODER)
    assert session.record.in_progress is None


def test_lost_utterances_are_bounded(tmp_path: Path) -> None:
    conversation = create(tmp_path).record.conversation
    for number in range(150):
        conversation = conversation.with_lost(records.LostRecord(str(number), "why", "2026-01-01T00:00:00Z"))
    assert [one.text for one in conversation.lost][::99] == ["50", "149"]


def test_delete(tmp_path: Path) -> None:
    session = create(tmp_path)
    append_clip(session, "one")
    session.delete()
    assert not session.path.exists()


def test_copy_of_a_session_elsewhere(tmp_path: Path) -> None:
    """The record holds no path: a session may be moved with its folder."""
    session = create(tmp_path)
    append_clip(session, "one")
    moved = tmp_path / "elsewhere" / "s1"
    shutil.copytree(session.path, moved)
    again = SessionFiles.open(moved)
    append_clip(again, "two")
    assert len(decode_video(video(again)).frames) == 10
    assert str(tmp_path) not in (moved / "session.json").read_text()
    assert np.array_equal(decode_video(video(session)).pcm, decode_video(video(again)).pcm[: 5 * 1920])
    assert replace(again.record, conversation=session.record.conversation) == session.record
