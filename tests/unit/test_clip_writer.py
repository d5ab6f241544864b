"""A clip is exactly its frames and its samples, or it is not there at all."""

from __future__ import annotations

import resource
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media import picture, read, to_pcm, tone, write_clip
from warmtalk.core.errors import NotReady, StorageFull, WarmtalkError
from warmtalk.core.types import FrameClock
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.h264 import EncodedPicture, X264Settings
from warmtalk.media.i420 import to_i420
from warmtalk.media.live_encoder import LiveEncoder, LiveSettings

CLOCK = FrameClock()
NOISE = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def use_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Puts a shell script in the place of ffmpeg; $FFMPEG is the real one."""
    real = find_ffmpeg()

    def use(script: str) -> None:
        path = program(tmp_path / "other-ffmpeg", script.replace("$FFMPEG", real))
        monkeypatch.setenv("WARMTALK_FFMPEG", str(path))
        find_ffmpeg.cache_clear()

    yield use
    monkeypatch.undo()
    find_ffmpeg.cache_clear()


@pytest.mark.parametrize("fps", ["25", "30000/1001", "60", "1", "24000/1001"])
@pytest.mark.parametrize("first", [0, 7])
def test_picture_and_sound_are_exact(tmp_path: Path, fps: str, first: int) -> None:
    clock = FrameClock(Fraction(fps))
    clip, pcm = write_clip(tmp_path / "clip.mp4", clock, first, 33)
    film = read(clip.path)
    assert len(film.pictures) == clip.frames == 33
    assert film.times == [number / Fraction(fps) for number in range(33)]
    assert film.rate_hz == 48_000
    assert clip.samples == len(pcm) == clock.samples_at(first + 33, 48_000) - clock.samples_at(first, 48_000)
    assert np.array_equal(film.pcm, pcm)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_one_frame(tmp_path: Path) -> None:
    clip, pcm = write_clip(tmp_path / "clip.mp4", CLOCK, 0, 1, missing=1919)
    film = read(clip.path)
    assert (len(film.pictures), len(film.pcm)) == (1, 1920)
    assert np.array_equal(film.pcm, pcm)


def test_sound_is_padded_cut_and_clipped(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(picture(0))
    writer.write_audio(np.full(4000, 3.0, np.float32))
    writer.finish()
    assert np.array_equal(read(tmp_path / "clip.mp4").pcm, np.full(1920, 32767, np.int16))


def test_key_frame_each_second_and_no_reordering(tmp_path: Path) -> None:
    clip, _ = write_clip(tmp_path / "clip.mp4", CLOCK, 0, 60)
    assert read(clip.path).keys == [0, 25, 50]


def test_colours_come_back(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 100), (128, 128, 128), (255, 255, 255)]
    image = np.zeros((48, 96, 3), np.uint8)
    for place, colour in enumerate(colours):
        image[:, place * 16 : place * 16 + 16] = colour
    writer = ClipWriter(tmp_path / "clip.mp4", 96, 48, CLOCK)
    for _ in range(3):
        writer.write_bgr(image)
    writer.finish()
    shown = read(tmp_path / "clip.mp4").pictures[2]
    for place, colour in enumerate(colours):
        assert np.abs(shown[24, place * 16 + 8].astype(int) - colour).max() <= 6


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47), (65, 49), (2, 2)])
def test_odd_sizes_are_made_even(tmp_path: Path, width: int, height: int) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", width, height, CLOCK)
    writer.write_bgr(np.full((height, width, 3), 90, np.uint8))
    writer.finish()
    assert read(tmp_path / "clip.mp4").pictures[0].shape == (height + height % 2, width + width % 2, 3)


def test_wrong_size_is_refused(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    with pytest.raises(ValueError, match="64 x 48"):
        writer.write_i420(to_i420(np.zeros((48, 96, 3), np.uint8)))
    writer.abort()


def test_coded_pictures_go_into_live_clips_alone(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    with pytest.raises(ValueError, match="live"):
        writer.write_encoded(EncodedPicture(b"", keyframe=True))
    writer.abort()


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(picture(0))
    writer.write_audio(tone(1920))
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_ends_a_muxer_that_hangs(tmp_path: Path, use_ffmpeg) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg("exec sleep 60")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(picture(0))
    caught: list[BaseException] = []

    def finish() -> None:
        try:
            writer.finish()
        except WarmtalkError as error:
            caught.append(error)

    thread = threading.Thread(target=finish)
    thread.start()
    time.sleep(0.2)
    writer.abort()
    thread.join(5)
    assert not thread.is_alive()
    assert str(caught[0]) == "the clip was aborted"
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


def test_nothing_is_written_after_abort(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.abort()
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.write_bgr(picture(0))
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.write_audio(tone(1920))
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.finish()


def test_dying_ffmpeg_says_why(tmp_path: Path, use_ffmpeg) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg("echo 'something odd' >&2; exit 3")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(picture(0))
    with pytest.raises(WarmtalkError, match=r"ended with status 3 while muxing video and audio: something odd"):
        writer.finish()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


@pytest.mark.parametrize("trap", ["", "trap '' XFSZ; "])
def test_full_disk_at_the_end(tmp_path: Path, use_ffmpeg, trap: str) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg(f'{trap}ulimit -f 4; exec $FFMPEG "$@"')
    target = tmp_path / "clips" / "clip.mp4"
    target.parent.mkdir()
    writer = ClipWriter(target, 640, 480, CLOCK)
    for _ in range(10):
        writer.write_bgr(NOISE)
    with pytest.raises(StorageFull, match=r"the volume is full \(while muxing video and audio\)\. Make room"):
        writer.finish()
    writer.abort()
    assert list(target.parent.iterdir()) == []


def test_full_disk(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 640, 480, CLOCK)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(StorageFull, match=r"the volume is full \(while writing a clip\)\. Make room"):
            for _ in range(10):
                writer.write_bgr(NOISE)
            writer.finish()
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    find_ffmpeg.cache_clear()
    try:
        with pytest.raises(NotReady, match=r"ffmpeg is missing\. Install it: pip install imageio-ffmpeg"):
            ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    finally:
        monkeypatch.undo()
        find_ffmpeg.cache_clear()
    assert list(tmp_path.iterdir()) == []


def test_sound_before_and_between_pictures(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    sound = tone(1920 * 50)
    for number in range(50):
        writer.write_audio(sound[number * 1920 : (number + 1) * 1920])
        if number >= 25:
            writer.write_bgr(picture(number))
    for number in range(25):
        writer.write_bgr(picture(number))
    clip = writer.finish()
    assert (clip.frames, clip.samples) == (50, 96_000)
    assert np.array_equal(read(clip.path).pcm, to_pcm(sound))


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo 'Error writing trailer: No space left on device' >&2", StorageFull, "the volume is full"),
        ('for last; do :; done; printf half > "${last#file:}"', WarmtalkError, "left an incomplete file while muxing"),
    ],
)
def test_ffmpeg_fails_and_ends_with_0(tmp_path: Path, use_ffmpeg, script, kind, message) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg(f"{script}; exit 0")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(picture(0))
    with pytest.raises(kind, match=message):
        writer.finish()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


@pytest.mark.parametrize("x264", [X264Settings("ultrafast", 21), X264Settings("veryfast", 18)])
def test_what_a_live_stream_has_coded_is_taken_as_it_is(tmp_path: Path, x264: X264Settings) -> None:
    """Live pictures from a key picture on, then a gap that is coded here, then live ones again."""
    stream = LiveEncoder(64, 48, LiveSettings(x264))
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK, x264=x264, live=True)
    assert writer.parameter_sets == stream.parameter_sets
    for number in range(40):
        shown = to_i420(picture(number))
        stream.write_frame(shown, tone(1920), keyframe=number in (3, 20))
        if number in (0, 1, 2, 18, 19):
            writer.write_i420(shown)
        else:
            writer.write_encoded(stream.last_picture)
    stream.close()
    film = read(writer.finish(38).path)
    assert film.times == [Fraction(number, 25) for number in range(38)]
    assert film.keys == [0, 3, 18, 20], "at 18 the coder begins anew, at 20 the stream goes on"
    for number, shown in enumerate(film.pictures):
        assert np.abs(shown.astype(int) - picture(number)).mean() < 4


@pytest.mark.parametrize("most", [1, 7, 30, 99])
def test_a_clip_is_cut_by_copy(tmp_path: Path, most: int) -> None:
    clock = FrameClock()
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, clock)
    for number in range(30):
        writer.write_bgr(picture(number))
    writer.write_audio(tone(30 * 1920))
    clip = writer.finish(most)
    kept = min(most, 30)
    assert (clip.frames, clip.samples) == (kept, kept * 1920)
    film = read(tmp_path / "clip.mp4")
    assert (len(film.pictures), len(film.pcm)) == (kept, kept * 1920)
    if kept < 30:
        assert abs(int(film.pcm[-1])) < 200, "no click"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
