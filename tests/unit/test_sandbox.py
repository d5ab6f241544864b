"""What a child that reads strangers' files may do, and what it is given to read."""

from __future__ import annotations

import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.audio import syllables, wav
from tests.footage import panned_frames, portrait, run_ffmpeg, write_photo, write_video
from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media import audio_decode, photo_decode
from warmtalk.media import png_decode as pictures_module
from warmtalk.media.file_types import sniff
from warmtalk.media.photo_decode import decode_photo
from warmtalk.media.png_decode import PngDecoder
from warmtalk.media.sandbox import ResourceLimits, sandbox_command, sandbox_environment
from warmtalk.media.video_decode import VideoReader

SMALL = ResourceLimits(memory_bytes=200 << 20, cpu_s=2)


def attempt(code: str, bounds: ResourceLimits = SMALL) -> subprocess.CompletedProcess[str]:
    command = sandbox_command([sys.executable, "-c", code], bounds)
    return subprocess.run(command, env=sandbox_environment(), capture_output=True, text=True)


def frames_of(path: Path) -> list[Image]:
    with VideoReader(path, Fraction(25)) as frames:
        return list(frames)


def test_memory_is_limited() -> None:
    assert "MemoryError" in attempt("b = bytearray(300 << 20)").stderr
    assert attempt("b = bytearray(50 << 20)").returncode == 0


def test_time_is_limited() -> None:
    assert attempt("while True: pass", ResourceLimits(200 << 20, 1)).returncode in (-signal.SIGKILL, -signal.SIGXCPU)


def test_no_file_can_be_written(tmp_path: Path) -> None:
    done = attempt(f"import sys; f = open({str(tmp_path / 'a')!r}, 'wb', 0); f.write(b'x')")
    assert done.returncode != 0 and (tmp_path / "a").read_bytes() == b""


def test_the_service_s_keys_stay_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMTALK_GATEWAY_API_KEY", "secret")
    assert "secret" not in attempt("import os; print(os.environ)").stdout


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", ("-c:v", "mpeg4", "-q:v", "2")),
        ("a.mpg", ("-c:v", "mpeg1video", "-q:v", "2")),
        ("a.vob", ("-c:v", "mpeg2video", "-q:v", "2")),
        ("a.ts", ("-pix_fmt", "yuv420p")),
        ("a.m2ts", ("-pix_fmt", "yuv420p")),
    ],
)
def test_older_films_are_read(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = write_video(tmp_path / name, panned_frames(30), options=options)
    found = frames_of(path)
    assert abs(len(found) - 30) <= 1
    assert all(float(cv2.PSNR(a, b)) > 28 for a, b in zip(found, panned_frames(30), strict=False))


def test_a_photo_of_the_web_is_read(tmp_path: Path) -> None:
    image = decode_photo(write_photo(tmp_path / "a.webp", portrait()))
    assert float(cv2.PSNR(image, portrait())) > 30


def test_a_film_in_a_rare_code_is_refused_by_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "old.avi", panned_frames(3), options=("-c:v", "cinepak"))
    with pytest.raises(BadMedia, match=r"old.avi is encoded as cinepak, which is not read. Convert it"):
        frames_of(path)


def test_a_film_that_needs_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("warmtalk.media.video_decode.VIDEO_LIMITS", ResourceLimits(64 << 20, 60))
    wide = [np.zeros((1440, 2560, 3), np.uint8)] * 3
    with pytest.raises(BadMedia, match="takes too much memory"):
        frames_of(write_video(tmp_path / "a.mp4", wide))


def test_a_photo_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asleep = tmp_path / "asleep.py"
    asleep.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(photo_decode, "_WORKER", asleep)
    monkeypatch.setattr(photo_decode, "MAX_WAIT_S", 0.3)
    with pytest.raises(BadMedia, match="takes too long"):
        decode_photo(write_photo(tmp_path / "a.png", portrait()))


def test_a_photo_child_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text("import struct, sys; sys.stdout.buffer.write(struct.pack('<II', 9000, 9000) + bytes(30_000_000))")
    monkeypatch.setattr(photo_decode, "_WORKER", liar)
    with pytest.raises(BadMedia, match="cannot be decoded"):
        decode_photo(write_photo(tmp_path / "a.png", portrait()))


def test_a_photo_with_a_film_behind_it_is_whole(tmp_path: Path) -> None:
    """As phones make them; and one with a thumbnail in front is not whole because the thumbnail is."""
    plain = write_photo(tmp_path / "a.jpg", portrait()).read_bytes()
    (tmp_path / "b.jpg").write_bytes(plain + bytes(200_000))
    assert decode_photo(tmp_path / "b.jpg").shape == (512, 512, 3)
    thumbnail = write_photo(tmp_path / "c.jpg", portrait()[:64, :64]).read_bytes()
    length = (len(thumbnail) + 2).to_bytes(2, "big")
    (tmp_path / "d.jpg").write_bytes(plain[:2] + b"\xff\xe1" + length + thumbnail + plain[2 : len(plain) // 2])
    with pytest.raises(BadMedia, match="cut off"):
        decode_photo(tmp_path / "d.jpg")


def test_a_sound_with_a_cover_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(syllables(1.0)))
    cover = write_photo(tmp_path / "cover.jpg", portrait())
    for name in ("a.flac", "a.mp3"):
        both = ["-i", str(tmp_path / "a.wav"), "-i", str(cover), "-map", "0", "-map", "1", "-c:v", "copy"]
        run_ffmpeg([*both, "-disposition:v", "attached_pic", str(tmp_path / name)])
        assert audio_decode.decode_audio((tmp_path / name).read_bytes(), max_s=10).duration_s == pytest.approx(
            1, abs=0.1
        )


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"#EXTM3U\n", "playlist"),
        (b"ffconcat version 1.0", "playlist"),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg">', "playlist"),
        (b"\xef\xbb\xbf  <svg>", "svg"),
        (b"<html><body>", ""),
        (b"GIF89a" + bytes(400), "gif"),
        (b"G" * 10, ""),
        ((b"G" + bytes(187)) * 3, "ts"),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"", ""),
    ],
)
def test_kinds_of_file(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


def test_pictures_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [write_photo(tmp_path / f"{side}.png", portrait()[:side]) for side in (64, 512, 100)]
    with PngDecoder() as pictures:
        for path in paths:
            assert np.array_equal(pictures.decode(path), cv2.imread(str(path)))
            assert np.array_equal(pictures.decode(path, channels=1), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<svg>", "is not a PNG image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0", "cannot be decoded"),
    ],
)
def test_a_spoiled_picture_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with PngDecoder() as pictures, pytest.raises(BadMedia, match=why):
        pictures.decode(tmp_path / "a.png")


def test_a_pictures_child_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png", portrait())
    scripts = {
        "import struct, sys; sys.stdout.buffer.write(struct.pack('<II', 1 << 31, 1 << 31) + bytes(9999))": 60.0,
        "import struct, sys; sys.stdout.buffer.write(struct.pack('<II', 9, 9) + bytes(10))": 60.0,
        "pass": 60.0,
        "import time; time.sleep(60)": 0.3,
    }
    for script, patience in scripts.items():
        (tmp_path / "liar.py").write_text(script)
        monkeypatch.setattr(pictures_module, "_WORKER", tmp_path / "liar.py")
        monkeypatch.setattr(pictures_module, "MAX_WAIT_S", patience)
        with PngDecoder() as pictures, pytest.raises(BadMedia, match="cannot be decoded"):
            pictures.decode(path)
