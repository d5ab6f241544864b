"""A conversation of twenty clips: regular frame times, no gaps, exact to the sample, identical when rebuilt."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.media import decode_video, write_clip
from warmtalk.core.errors import Damaged, NotReady, StorageFull
from warmtalk.core.types import FrameClock
from warmtalk.media import concat
from warmtalk.media.concat import ClipFile, ConversationFileState
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.h264 import X264Settings

CLOCK = FrameClock()


class Conversation:
    """A conversation file made of clips with these lengths, in frames."""

    def __init__(self, folder: Path, clock: FrameClock, lengths: list[int]) -> None:
        self.path = folder / "conversation.mp4"
        self.clock = clock
        self.clips: list[ClipFile] = []
        self.pcm: list[npt.NDArray[np.int16]] = []
        self.states = [ConversationFileState()]
        for length in lengths:
            self.append(length)

    @property
    def state(self) -> ConversationFileState:
        return self.states[-1]

    def write_clip(self, length: int, x264: X264Settings | None = None) -> ClipFile:
        path = self.path.with_name(f"clip-{len(self.clips)}.mp4")
        missing = 700 if length % 2 else 0
        clip, pcm = write_clip(path, self.clock, self.state.frames, length, missing=missing, x264=x264)
        self.clips.append(clip)
        self.pcm.append(pcm)
        return clip

    def append(self, length: int) -> None:
        clip = self.write_clip(length)
        self.states.append(concat.append_clip(self.path, self.state, clip, self.clock))


@pytest.fixture(params=["system", "imageio-ffmpeg"])
def each_ffmpeg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    if request.param != "system":
        import imageio_ffmpeg

        monkeypatch.setenv("WARMTALK_FFMPEG", imageio_ffmpeg.get_ffmpeg_exe())
    find_ffmpeg.cache_clear()
    yield request.param
    monkeypatch.undo()
    find_ffmpeg.cache_clear()


@pytest.mark.parametrize(
    ("fps", "each_ffmpeg"), [("25", "system"), ("30000/1001", "imageio-ffmpeg")], indirect=["each_ffmpeg"]
)
def test_twenty_clips(tmp_path: Path, fps: str, each_ffmpeg: str) -> None:
    clock = FrameClock(Fraction(fps))
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 55, 1, 1, 26, 25, 24, 7, 40, 2, 50, 9, 30]
    conversation = Conversation(tmp_path, clock, lengths)
    video = decode_video(conversation.path)
    frames = sum(lengths)

    assert video.times == [number / Fraction(fps) for number in range(frames)]
    assert np.array_equal(video.pcm, np.concatenate(conversation.pcm))
    assert len(video.pcm) == conversation.state.samples == clock.samples_at(frames, 48_000)
    assert abs(len(video.pcm) - frames * 48_000 / Fraction(fps)) <= 1, "video and audio end together"
    assert video.duration_s == pytest.approx(float(frames / Fraction(fps)), abs=1e-3), "players see the duration"
    gaps = np.diff(video.packet_starts)
    assert video.packet_starts[0] == 0
    assert (gaps > 0).all()
    assert video.packet_starts[-1] + 48_000 > len(video.pcm)
    for number, frame in enumerate(video.frames):
        column = number % 64
        assert abs(int(frame[24, 63].mean()) - (40 + number % 100)) < 12 or column > 60

    before = conversation.path.read_bytes()
    conversation.path.unlink()
    assert concat.rebuild_conversation(conversation.path, conversation.clips, clock) == conversation.state
    assert conversation.path.read_bytes() == before


def test_audio_is_continuous_at_a_join(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10, 10, 10, 10])
    steps = np.abs(np.diff(decode_video(conversation.path).pcm.astype(int)))
    assert steps.max() <= 0.5 * 32767 * 2 * np.pi * 440 / 48_000 + 2, "a tone without a step"


def test_torn_append_is_cut_off(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10, 20])
    whole = conversation.path.read_bytes()
    clip = conversation.write_clip(30)
    after = concat.append_clip(conversation.path, conversation.state, clip, CLOCK)
    data = conversation.path.read_bytes()
    conversation.path.write_bytes(data[: len(whole) + (len(data) - len(whole)) // 2])

    assert concat.truncate_torn_append(conversation.path, conversation.state, CLOCK)
    assert conversation.path.read_bytes() == whole, "the duration in the head is restored too"
    assert not concat.truncate_torn_append(conversation.path, conversation.state, CLOCK)
    conversation.path.write_bytes(data[:-100])
    assert concat.append_clip(conversation.path, conversation.state, clip, CLOCK) == after
    assert conversation.path.read_bytes() == data


def test_torn_first_append_is_removed(tmp_path: Path) -> None:
    (tmp_path / "conversation.mp4").write_bytes(b"half a head")
    assert concat.truncate_torn_append(tmp_path / "conversation.mp4", ConversationFileState(), CLOCK)
    assert not (tmp_path / "conversation.mp4").exists()


def test_file_shorter_than_recorded(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10])
    os.truncate(conversation.path, 1000)
    with pytest.raises(Damaged, match=r"conversation.mp4 has 1000 bytes, \d+ are recorded"):
        concat.truncate_torn_append(conversation.path, conversation.state, CLOCK)


def test_clip_with_other_counts_than_recorded(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10])
    before = conversation.path.read_bytes()
    clip = conversation.write_clip(10)
    wrong = ClipFile(clip.path, 11, clip.samples)
    with pytest.raises(Damaged, match="holds 10 frames and 19200 samples, not 11 and 19200"):
        concat.append_clip(conversation.path, conversation.state, wrong, CLOCK)
    assert conversation.path.read_bytes() == before


def test_broken_clip_does_not_change_the_conversation(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10])
    before = conversation.path.read_bytes()
    clip = conversation.write_clip(10)
    clip.path.write_bytes(b"not a video at all")
    with pytest.raises(Exception, match=r"ffmpeg ended with status \d+ while joining a clip: .*Invalid data"):
        concat.append_clip(conversation.path, conversation.state, clip, CLOCK)
    assert conversation.path.read_bytes() == before


def test_other_encoder_settings_are_refused(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10])
    clip = conversation.write_clip(10, X264Settings("ultrafast", 30))
    with pytest.raises(NotReady, match=r"the encoder has changed since its first clip\. Reset the session"):
        concat.append_clip(conversation.path, conversation.state, clip, CLOCK)
    assert concat.truncate_torn_append(conversation.path, conversation.state, CLOCK) is False


def test_full_disk(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10])
    clip = conversation.write_clip(60)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    link = tmp_path / "full.mp4"
    link.symlink_to(full)
    with pytest.raises(StorageFull, match=r"the volume is full \(while joining a clip to the conversation\)"):
        concat.append_clip(link, ConversationFileState(), clip, CLOCK)


def test_unusual_path_names(tmp_path: Path) -> None:
    folder = tmp_path / "it's a 'folder' with ünïcode \\ and spaces"
    folder.mkdir()
    conversation = Conversation(folder, CLOCK, [3, 3])
    assert len(decode_video(conversation.path).frames) == 6


@pytest.mark.parametrize("indexed", [False, True])
def test_export(tmp_path: Path, indexed: bool, each_ffmpeg: str) -> None:
    conversation = Conversation(tmp_path, CLOCK, [10, 7, 30])
    target = tmp_path / "export.mp4"
    concat.export_conversation(conversation.path, target, indexed=indexed)
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index is in front"
    assert b"moof" not in data
    video = decode_video(target)
    assert video.times == decode_video(conversation.path).times
    assert np.array_equal(video.frames[20], decode_video(conversation.path).frames[20])
    if indexed:
        assert np.array_equal(video.pcm, np.concatenate(conversation.pcm))
    assert video.duration_s == pytest.approx(47 / 25, abs=0.03)
    assert {path.name for path in tmp_path.iterdir()} >= {"export.mp4"}
    assert not list(tmp_path.glob("*.tmp"))


def test_cost_of_an_append_is_constant(tmp_path: Path) -> None:
    """Appending writes the clip and the head alone, for any length of the conversation."""
    conversation = Conversation(tmp_path, CLOCK, [5])
    sizes = []
    for _ in range(4):
        before = conversation.state.size
        conversation.append(5)
        sizes.append(conversation.state.size - before)
    assert max(sizes) < 2 * min(sizes)
