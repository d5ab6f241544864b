"""After kill -9 at any moment of an append the conversation opens and holds whole clips only."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.media import decode_video, write_clip
from warmtalk.core.types import FrameClock
from warmtalk.media.concat import ClipFile
from warmtalk.media.h264 import X264Settings
from warmtalk.services.session.session_files import SessionFiles

_KILLS = 200
_FRAMES = 3


def test_killed_two_hundred_times(tmp_path: Path) -> None:
    clip, _ = write_clip(tmp_path / "clip.mp4", FrameClock(), 0, _FRAMES)
    rng = random.Random(5)
    path = tmp_path / "s1"
    SessionFiles.create(path, "ann", "25", X264Settings())
    start = time.monotonic()
    _append_and_kill(SessionFiles.open(path), clip, None)
    longest_s = 1.5 * (time.monotonic() - start)
    kept = 0
    for number in range(_KILLS):
        files = SessionFiles.open(path)
        clips_before = len(files.record.conversation.clips)
        _append_and_kill(files, clip, rng.uniform(0, longest_s))
        after = SessionFiles.open(path).record
        clips = after.conversation.clips
        assert len(clips) in (clips_before, clips_before + 1)
        assert after.in_progress is None
        assert [one.frames for one in clips] == [_FRAMES] * len(clips)
        kept += len(clips) - clips_before
        if clips:
            video = files.video_path(after.conversation)
            assert video.stat().st_size == after.conversation.size
            if number % 20 == 19:
                assert len(decode_video(video).frames) == len(clips) * _FRAMES
    assert 10 < kept < _KILLS - 10, "killed before, within and after"


def _append_and_kill(files: SessionFiles, clip: ClipFile, after_s: float | None) -> None:
    """Commits the clip in a child process and kills the child after `after_s`; None lets the child finish."""
    writer = files.begin_clip("words", 64, 48, X264Settings())
    writer.abort()
    number = len(files.record.conversation.clips) + 1
    target = files.path / files.record.conversation.folder / f"clip-{number:04d}.mp4"
    shutil.copyfile(clip.path, target)
    child = os.fork()
    if not child:
        try:
            files.commit_clip(ClipFile(target, clip.frames, clip.samples))
        finally:
            os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
