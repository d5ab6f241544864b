"""A session's files: whatever is cut off in the middle, the next start finds a whole conversation and says so."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.media import picture, read, tone
from warmtalk.core.errors import Damaged, NotReady, StorageFull
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.services.session import session_record as records
from warmtalk.services.session.session_files import CRASHED, SessionFiles

ENCODER = X264Settings("ultrafast", 23)


def create(path: Path) -> SessionFiles:
    return SessionFiles.create(path / "s1", "ann", "25", ENCODER)


def film(folder: SessionFiles, text: str, frames: int) -> ClipWriter:
    writer = folder.begin_clip(text, 64, 48, ENCODER)
    for number in range(frames):
        writer.write_bgr(picture(number))
    writer.write_audio(tone(1920 * frames))
    return writer


def say(folder: SessionFiles, text: str, frames: int = 5) -> None:
    folder.commit_clip(film(folder, text, frames).finish())


def video(folder: SessionFiles) -> Path:
    return folder.video_path(folder.record.conversation)


def files(folder: SessionFiles) -> set[str]:
    return {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}


def test_clips_follow_each_other(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one", 5)
    say(folder, "two", 7)
    conversation = folder.record.conversation
    assert [(clip.number, clip.text, clip.first_frame, clip.frames) for clip in conversation.clips] == [
        (1, "one", 0, 5),
        (2, "two", 5, 7),
    ]
    assert (conversation.frames, conversation.samples) == (12, 12 * 1920)
    assert len(read(video(folder)).pictures) == 12
    assert files(folder) == {
        "session.json",
        "0001/conversation.mp4",
        "0001/clip-0001.mp4",
        "0001/clip-0002.mp4",
    }
    assert SessionFiles.open(folder.path).record == folder.record


def test_record_is_plain_json(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "Grüße 你好")
    raw = json.loads((folder.path / "session.json").read_text("utf-8"))
    assert raw["conversation"]["clips"][0]["text"] == "Grüße 你好"
    assert records.from_json(raw) == folder.record


def test_crash_while_filming(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "kept")
    whole = video(folder).read_bytes()
    writer = film(folder, "lost words", 3)
    after = SessionFiles.open(folder.path)  # as a new process finds it
    writer.abort()
    assert after.record.in_progress is None
    assert [(one.text, one.reason) for one in after.record.conversation.lost] == [("lost words", CRASHED)]
    assert after.record.conversation.lost[0].started.endswith("Z")
    assert video(after).read_bytes() == whole
    assert files(after) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}
    say(after, "goes on")
    assert len(read(video(after)).pictures) == 10
    assert len(SessionFiles.open(folder.path).record.conversation.lost) == 1, "told once"


def test_crash_between_join_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create(tmp_path)
    say(folder, "kept")
    whole = video(folder).read_bytes()
    writer = film(folder, "joined but not recorded", 5)
    clip = writer.finish()
    with monkeypatch.context() as patch:
        patch.setattr(SessionFiles, "_save", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            folder.commit_clip(clip)
    assert len(video(folder).read_bytes()) > len(whole)
    after = SessionFiles.open(folder.path)
    assert video(after).read_bytes() == whole
    assert [one.text for one in after.record.conversation.lost] == ["joined but not recorded"]
    assert "0001/clip-0002.mp4" not in files(after)


def _power_cut(*args: object) -> None:
    raise KeyboardInterrupt


def test_video_that_lost_its_end_is_made_again(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one")
    say(folder, "two")
    whole = video(folder).read_bytes()
    os.truncate(video(folder), len(whole) // 2)
    SessionFiles.open(folder.path)
    assert video(folder).read_bytes() == whole
    video(folder).unlink()
    say(folder, "three, while the service runs")
    assert len(read(video(folder)).pictures) == 15


def test_video_and_clip_are_gone(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one")
    video(folder).unlink()
    (folder.path / "0001" / "clip-0001.mp4").unlink()
    after = SessionFiles.open(folder.path)
    writer = film(after, "two", 2)
    with pytest.raises(Damaged, match=r"clip-0001.mp4 is missing\. Start the next one: warmtalk reset --session s1"):
        after.commit_clip(writer.finish())
    after.discard_clip()
    assert after.reset(ENCODER, delete=False) is not None
    say(after, "three")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', "null"])
def test_damaged_record(tmp_path: Path, text: str) -> None:
    folder = create(tmp_path)
    (folder.path / "session.json").write_text(text)
    with pytest.raises(Damaged, match=r"session 's1' is damaged: session.json cannot be read .*Remove it"):
        SessionFiles.open(folder.path)


def test_give_up_leaves_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "kept")
    before = folder.record
    writer = film(folder, "given up", 3)
    writer.abort()
    folder.discard_clip()
    folder.discard_clip()
    assert folder.record == before
    assert files(folder) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


def test_full_disk_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create(tmp_path)
    writer = film(folder, "too much", 3)
    clip = writer.finish()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("warmtalk.services.session.session_files.write_json", full)
        with pytest.raises(StorageFull, match=r"the volume is full \(while recording a clip\)"):
            folder.commit_clip(clip)
        folder.discard_clip("the volume is full")
    assert folder.record.in_progress is None
    assert folder.record.conversation.lost[0].reason == "the volume is full"
    assert SessionFiles.open(folder.path).record.conversation.lost[0].reason == CRASHED, "what the disk knows"


def test_reset_keeps_or_deletes(tmp_path: Path) -> None:
    folder = create(tmp_path)
    assert folder.reset(ENCODER, delete=False) is None
    assert folder.record.conversation.number == 1, "an empty conversation stays"
    say(folder, "one")
    closed = folder.reset(ENCODER, delete=False)
    assert closed is not None
    assert folder.video_path(closed).is_file()
    say(folder, "two")
    assert folder.record.conversation.number == 2
    assert folder.record.conversation.clips[0].first_frame == 0
    assert folder.reset(ENCODER, delete=True) is None
    assert [one.number for one in folder.record.archived] == [1]
    assert files(SessionFiles.open(folder.path)) == {"session.json", "0001/conversation.mp4", "0001/clip-0001.mp4"}


def test_folder_that_no_record_names_is_swept_away(tmp_path: Path) -> None:
    folder = create(tmp_path)
    (folder.path / "0007").mkdir()
    (folder.path / "0007" / "clip-0001.mp4").write_bytes(b"x")
    assert files(SessionFiles.open(folder.path)) == {"session.json"}


def test_encoder_is_fixed_for_a_conversation(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one")
    folder.begin_clip("two", 64, 48, X264Settings("medium", 40)).abort()
    assert (folder.record.conversation.preset, folder.record.conversation.crf) == ("ultrafast", 23)
    folder.discard_clip()
    folder.reset(X264Settings("medium", 40), delete=False)
    assert folder.record.conversation.preset == "medium"


def test_avatar_of_another_size(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one")
    with pytest.raises(NotReady, match=r"avatar 'ann' is now 128 x 96, the conversation is 64 x 48\. .*warmtalk reset"):
        folder.begin_clip("two", 128, 96, ENCODER)
    assert folder.record.in_progress is None


def test_lost_are_bounded(tmp_path: Path) -> None:
    conversation = create(tmp_path).record.conversation
    for number in range(150):
        conversation = conversation.with_lost(records.LostRecord(str(number), "why", "2026-01-01T00:00:00Z"))
    assert [one.text for one in conversation.lost][::99] == ["50", "149"]


def test_delete(tmp_path: Path) -> None:
    folder = create(tmp_path)
    say(folder, "one")
    folder.delete()
    assert not folder.path.exists()


def test_copy_of_a_session_elsewhere(tmp_path: Path) -> None:
    """No path is in the record: a session may be moved with its folder."""
    folder = create(tmp_path)
    say(folder, "one")
    moved = tmp_path / "elsewhere" / "s1"
    shutil.copytree(folder.path, moved)
    again = SessionFiles.open(moved)
    say(again, "two")
    assert len(read(video(again)).pictures) == 10
    assert str(tmp_path) not in (moved / "session.json").read_text()
    assert np.array_equal(read(video(folder)).pcm, read(video(again)).pcm[: 5 * 1920])
    assert replace(again.record, conversation=folder.record.conversation) == folder.record
