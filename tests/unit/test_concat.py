"""Twenty clips are one film: regular, gapless, exact to the sample, and the same when it is made again."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.media import read, write_clip
from warmtalk.core.errors import Damaged, NotReady, StorageFull
from warmtalk.core.types import FrameClock
from warmtalk.media import concat
from warmtalk.media.concat import ClipFile, ConversationFileState
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.h264 import X264Settings

CLOCK = FrameClock()


class Talk:
    """A conversation of clips of these lengths."""

    def __init__(self, folder: Path, clock: FrameClock, lengths: list[int]) -> None:
        self.path = folder / "conversation.mp4"
        self.clock = clock
        self.clips: list[ClipFile] = []
        self.pcm: list[npt.NDArray[np.int16]] = []
        self.states = [ConversationFileState()]
        for length in lengths:
            self.add(length)

    @property
    def state(self) -> ConversationFileState:
        return self.states[-1]

    def write(self, length: int, x264: X264Settings | None = None) -> ClipFile:
        path = self.path.with_name(f"clip-{len(self.clips)}.mp4")
        missing = 700 if length % 2 else 0
        clip, pcm = write_clip(path, self.clock, self.state.frames, length, missing=missing, x264=x264)
        self.clips.append(clip)
        self.pcm.append(pcm)
        return clip

    def add(self, length: int) -> None:
        clip = self.write(length)
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
    talk = Talk(tmp_path, clock, lengths)
    film = read(talk.path)
    frames = sum(lengths)

    assert film.times == [number / Fraction(fps) for number in range(frames)]
    assert np.array_equal(film.pcm, np.concatenate(talk.pcm))
    assert len(film.pcm) == talk.state.samples == clock.samples_at(frames, 48_000)
    assert abs(len(film.pcm) - frames * 48_000 / Fraction(fps)) <= 1, "picture and sound end together"
    assert film.seconds == pytest.approx(float(frames / Fraction(fps)), abs=1e-3), "players see the length"
    gaps = np.diff(film.starts)
    assert film.starts[0] == 0
    assert (gaps > 0).all()
    assert film.starts[-1] + 48_000 > len(film.pcm)
    for number, shown in enumerate(film.pictures):
        column = number % 64
        assert abs(int(shown[24, 63].mean()) - (40 + number % 100)) < 12 or column > 60

    before = talk.path.read_bytes()
    talk.path.unlink()
    assert concat.rebuild_conversation(talk.path, talk.clips, clock) == talk.state
    assert talk.path.read_bytes() == before


def test_nothing_clicks_at_a_join(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10, 10, 10, 10])
    steps = np.abs(np.diff(read(talk.path).pcm.astype(int)))
    assert steps.max() <= 0.5 * 32767 * 2 * np.pi * 440 / 48_000 + 2, "a tone that goes on has no step in it"


def test_torn_append_is_cut_off(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10, 20])
    whole = talk.path.read_bytes()
    clip = talk.write(30)
    after = concat.append_clip(talk.path, talk.state, clip, CLOCK)
    data = talk.path.read_bytes()
    talk.path.write_bytes(data[: len(whole) + (len(data) - len(whole)) // 2])

    assert concat.truncate_torn_append(talk.path, talk.state, CLOCK)
    assert talk.path.read_bytes() == whole, "the length in the head is that of the record too"
    assert not concat.truncate_torn_append(talk.path, talk.state, CLOCK)
    talk.path.write_bytes(data[:-100])
    assert concat.append_clip(talk.path, talk.state, clip, CLOCK) == after
    assert talk.path.read_bytes() == data


def test_torn_first_append_is_removed(tmp_path: Path) -> None:
    (tmp_path / "conversation.mp4").write_bytes(b"half a head")
    assert concat.truncate_torn_append(tmp_path / "conversation.mp4", ConversationFileState(), CLOCK)
    assert not (tmp_path / "conversation.mp4").exists()


def test_file_shorter_than_recorded(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10])
    os.truncate(talk.path, 1000)
    with pytest.raises(Damaged, match=r"conversation.mp4 has 1000 bytes, \d+ are recorded"):
        concat.truncate_torn_append(talk.path, talk.state, CLOCK)


def test_clip_that_is_not_what_it_should_be(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10])
    before = talk.path.read_bytes()
    clip = talk.write(10)
    wrong = ClipFile(clip.path, 11, clip.samples)
    with pytest.raises(Damaged, match="holds 10 frames and 19200 samples, not 11 and 19200"):
        concat.append_clip(talk.path, talk.state, wrong, CLOCK)
    assert talk.path.read_bytes() == before


def test_broken_clip_leaves_the_conversation(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10])
    before = talk.path.read_bytes()
    clip = talk.write(10)
    clip.path.write_bytes(b"not a film at all")
    with pytest.raises(Exception, match=r"ffmpeg ended with status \d+ while joining a clip: .*Invalid data"):
        concat.append_clip(talk.path, talk.state, clip, CLOCK)
    assert talk.path.read_bytes() == before


def test_other_encoder_settings_do_not_fit(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10])
    clip = talk.write(10, X264Settings("ultrafast", 30))
    with pytest.raises(NotReady, match=r"the encoder has changed since its first clip\. Reset the session"):
        concat.append_clip(talk.path, talk.state, clip, CLOCK)
    assert concat.truncate_torn_append(talk.path, talk.state, CLOCK) is False


def test_full_disk(tmp_path: Path) -> None:
    talk = Talk(tmp_path, CLOCK, [10])
    clip = talk.write(60)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    link = tmp_path / "full.mp4"
    link.symlink_to(full)
    with pytest.raises(StorageFull, match=r"the volume is full \(while joining a clip to the conversation\)"):
        concat.append_clip(link, ConversationFileState(), clip, CLOCK)


def test_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "it's a 'folder' with ünïcode \\ and spaces"
    folder.mkdir()
    talk = Talk(folder, CLOCK, [3, 3])
    assert len(read(talk.path).pictures) == 6


@pytest.mark.parametrize("indexed", [False, True])
def test_export(tmp_path: Path, indexed: bool, each_ffmpeg: str) -> None:
    talk = Talk(tmp_path, CLOCK, [10, 7, 30])
    target = tmp_path / "export.mp4"
    concat.export_conversation(talk.path, target, indexed=indexed)
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index is in front"
    assert b"moof" not in data
    film = read(target)
    assert film.times == read(talk.path).times
    assert np.array_equal(film.pictures[20], read(talk.path).pictures[20])
    if indexed:
        assert np.array_equal(film.pcm, np.concatenate(talk.pcm))
    assert film.seconds == pytest.approx(47 / 25, abs=0.03)
    assert {path.name for path in tmp_path.iterdir()} >= {"export.mp4"}
    assert not list(tmp_path.glob("*.tmp"))


def test_cost_does_not_grow(tmp_path: Path) -> None:
    """Appending writes the clip's bytes and the head, however long the conversation is."""
    talk = Talk(tmp_path, CLOCK, [5])
    sizes = []
    for _ in range(4):
        before = talk.state.size
        talk.add(5)
        sizes.append(talk.state.size - before)
    assert max(sizes) < 2 * min(sizes)
