"""A clip holds the exact frames and samples; a failure leaves no clip on disk."""

from __future__ import annotations

import resource
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media import decode_video, numbered_frame, to_pcm, tone, write_clip
from warmtalk.core.errors import NotReady, StorageFull, WarmtalkError
from warmtalk.core.types import FrameClock
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.h264 import EncodedPicture, X264Settings
from warmtalk.media.i420 import to_i420
from warmtalk.media.live_encoder import LiveEncoder, LiveSettings

CLOCK = FrameClock()
NOISE = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)


def write_script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def use_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Replaces ffmpeg by a shell script; $FFMPEG is the real program."""
    real = find_ffmpeg()

    def use(script: str) -> None:
        path = write_script(tmp_path / "other-ffmpeg", script.replace("$FFMPEG", real))
        monkeypatch.setenv("WARMTALK_FFMPEG", str(path))
        find_ffmpeg.cache_clear()

    yield use
    monkeypatch.undo()
    find_ffmpeg.cache_clear()


@pytest.mark.parametrize("fps", ["25", "30000/1001", "60", "1", "24000/1001"])
@pytest.mark.parametrize("first", [0, 7])
def test_frames_and_samples_are_exact(tmp_path: Path, fps: str, first: int) -> None:
    clock = FrameClock(Fraction(fps))
    clip, pcm = write_clip(tmp_path / "clip.mp4", clock, first, 33)
    video = decode_video(clip.path)
    assert len(video.frames) == clip.frames == 33
    assert video.times == [number / Fraction(fps) for number in range(33)]
    assert video.rate_hz == 48_000
    assert clip.samples == len(pcm) == clock.samples_at(first + 33, 48_000) - clock.samples_at(first, 48_000)
    assert np.array_equal(video.pcm, pcm)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_one_frame(tmp_path: Path) -> None:
    clip, pcm = write_clip(tmp_path / "clip.mp4", CLOCK, 0, 1, missing=1919)
    video = decode_video(clip.path)
    assert (len(video.frames), len(video.pcm)) == (1, 1920)
    assert np.array_equal(video.pcm, pcm)


def test_audio_is_cut_and_clipped(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(numbered_frame(0))
    writer.write_audio(np.full(4000, 3.0, np.float32))
    writer.finish()
    assert np.array_equal(decode_video(tmp_path / "clip.mp4").pcm, np.full(1920, 32767, np.int16))


def test_one_key_frame_per_second(tmp_path: Path) -> None:
    clip, _ = write_clip(tmp_path / "clip.mp4", CLOCK, 0, 60)
    assert decode_video(clip.path).keyframes == [0, 25, 50]


def test_colours_are_kept(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 100), (128, 128, 128), (255, 255, 255)]
    image = np.zeros((48, 96, 3), np.uint8)
    for index, colour in enumerate(colours):
        image[:, index * 16 : index * 16 + 16] = colour
    writer = ClipWriter(tmp_path / "clip.mp4", 96, 48, CLOCK)
    for _ in range(3):
        writer.write_bgr(image)
    writer.finish()
    decoded = decode_video(tmp_path / "clip.mp4").frames[2]
    for index, colour in enumerate(colours):
        assert np.abs(decoded[24, index * 16 + 8].astype(int) - colour).max() <= 6


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47), (65, 49), (2, 2)])
def test_odd_sizes_are_made_even(tmp_path: Path, width: int, height: int) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", width, height, CLOCK)
    writer.write_bgr(np.full((height, width, 3), 90, np.uint8))
    writer.finish()
    assert decode_video(tmp_path / "clip.mp4").frames[0].shape == (height + height % 2, width + width % 2, 3)


def test_wrong_size_is_refused(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    with pytest.raises(ValueError, match="64 x 48"):
        writer.write_i420(to_i420(np.zeros((48, 96, 3), np.uint8)))
    writer.abort()


def test_encoded_frames_are_for_live_clips_alone(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    with pytest.raises(ValueError, match="live"):
        writer.write_encoded(EncodedPicture(b"", keyframe=True))
    writer.abort()


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(numbered_frame(0))
    writer.write_audio(tone(1920))
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_ends_a_muxer_that_hangs(tmp_path: Path, use_ffmpeg) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg("exec sleep 60")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(numbered_frame(0))
    errors: list[BaseException] = []

    def finish() -> None:
        try:
            writer.finish()
        except WarmtalkError as error:
            errors.append(error)

    thread = threading.Thread(target=finish)
    thread.start()
    time.sleep(0.2)
    writer.abort()
    thread.join(5)
    assert not thread.is_alive()
    assert str(errors[0]) == "the clip was aborted"
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


def test_nothing_is_written_after_abort(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.abort()
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.write_bgr(numbered_frame(0))
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.write_audio(tone(1920))
    with pytest.raises(WarmtalkError, match="aborted"):
        writer.finish()


def test_error_text_of_ffmpeg_is_reported(tmp_path: Path, use_ffmpeg) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg("echo 'something odd' >&2; exit 3")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(numbered_frame(0))
    with pytest.raises(WarmtalkError, match=r"ended with status 3 while muxing video and audio: something odd"):
        writer.finish()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


@pytest.mark.parametrize("trap", ["", "trap '' XFSZ; "])
def test_full_disk_while_muxing(tmp_path: Path, use_ffmpeg, trap: str) -> None:  # type: ignore[no-untyped-def]
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


def test_full_disk_while_spooling(tmp_path: Path) -> None:
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


def test_audio_before_and_between_frames(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    audio = tone(1920 * 50)
    for number in range(50):
        writer.write_audio(audio[number * 1920 : (number + 1) * 1920])
        if number >= 25:
            writer.write_bgr(numbered_frame(number))
    for number in range(25):
        writer.write_bgr(numbered_frame(number))
    clip = writer.finish()
    assert (clip.frames, clip.samples) == (50, 96_000)
    assert np.array_equal(decode_video(clip.path).pcm, to_pcm(audio))


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo 'Error writing trailer: No space left on device' >&2", StorageFull, "the volume is full"),
        ('for last; do :; done; printf half > "${last#file:}"', WarmtalkError, "left an incomplete file while muxing"),
    ],
)
def test_ffmpeg_fails_with_exit_status_0(tmp_path: Path, use_ffmpeg, script, kind, message) -> None:  # type: ignore[no-untyped-def]
    use_ffmpeg(f"{script}; exit 0")
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK)
    writer.write_bgr(numbered_frame(0))
    with pytest.raises(kind, match=message):
        writer.finish()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["other-ffmpeg"]


@pytest.mark.parametrize("x264", [X264Settings("ultrafast", 21), X264Settings("veryfast", 18)])
def test_frames_of_a_live_stream_are_copied(tmp_path: Path, x264: X264Settings) -> None:
    """Live frames from a key frame on, then two frames encoded by the writer, then live frames again."""
    stream = LiveEncoder(64, 48, LiveSettings(x264))
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, CLOCK, x264=x264, live=True)
    assert writer.parameter_sets == stream.parameter_sets
    for number in range(40):
        frame = to_i420(numbered_frame(number))
        stream.write_frame(frame, tone(1920), keyframe=number in (3, 20))
        if number in (0, 1, 2, 18, 19):
            writer.write_i420(frame)
        else:
            writer.write_encoded(stream.last_picture)
    stream.close()
    video = decode_video(writer.finish(38).path)
    assert video.times == [Fraction(number, 25) for number in range(38)]
    assert video.keyframes == [0, 3, 18, 20], "the writer's encoder starts anew at 18, the stream continues at 20"
    for number, frame in enumerate(video.frames):
        assert np.abs(frame.astype(int) - numbered_frame(number)).mean() < 4


@pytest.mark.parametrize("max_frames", [1, 7, 30, 99])
def test_a_clip_is_cut_by_copy(tmp_path: Path, max_frames: int) -> None:
    clock = FrameClock()
    writer = ClipWriter(tmp_path / "clip.mp4", 64, 48, clock)
    for number in range(30):
        writer.write_bgr(numbered_frame(number))
    writer.write_audio(tone(30 * 1920))
    clip = writer.finish(max_frames)
    frames = min(max_frames, 30)
    assert (clip.frames, clip.samples) == (frames, frames * 1920)
    video = decode_video(tmp_path / "clip.mp4")
    assert (len(video.frames), len(video.pcm)) == (frames, frames * 1920)
    if frames < 30:
        assert abs(int(video.pcm[-1])) < 200, "no click"
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
