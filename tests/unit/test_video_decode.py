"""Reading films and photos that anybody may have sent, and writing segments."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.footage import HEIGHT, WIDTH, grey_frames, panned_frames, portrait, run_ffmpeg, write_photo, write_video
from warmtalk.core.bundle import SEGMENT_FRAMES, read_segment
from warmtalk.core.errors import BadMedia, NotReady, StorageFull
from warmtalk.core.types import Image
from warmtalk.media import probe, video_decode
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.photo_decode import MAX_SIDE, decode_photo
from warmtalk.media.segment_writer import SegmentWriter
from warmtalk.media.video_decode import SourceLimits, VideoReader

RATE = Fraction(25)


def read(path: Path, rate: Fraction = RATE, limits: SourceLimits = SourceLimits(), name: str = "") -> list[Image]:  # noqa: B008 - immutable
    with VideoReader(path, rate, limits, name=name) as frames:
        return list(frames)


def psnr(a: Image, b: Image) -> float:
    return float(cv2.PSNR(a, b))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("films") / "film.mp4", panned_frames(30))


def test_every_frame_comes_once_and_in_order(source: Path) -> None:
    with VideoReader(source, RATE) as frames:
        found = list(frames)
        assert frames.expected_frames == 30
    assert len(found) == 30
    assert all(image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8 for image in found)
    assert all(psnr(a, b) > 30 for a, b in zip(found, panned_frames(30), strict=True))


@pytest.mark.parametrize(("fps", "rate", "count"), [("50", "25", 15), ("30000/1001", "25", 25), ("10", "25", 75)])
def test_other_rates_are_converted(tmp_path: Path, fps: str, rate: str, count: int) -> None:
    assert abs(len(read(write_video(tmp_path / "a.mp4", panned_frames(30), fps=fps), Fraction(rate))) - count) <= 1


def test_variable_rate_keeps_its_time(tmp_path: Path) -> None:
    jumpy = ("-vf", "select='not(mod(n,3))+lt(n,10)'", "-fps_mode", "vfr", "-pix_fmt", "yuv420p")
    assert abs(len(read(write_video(tmp_path / "a.mp4", panned_frames(30), options=jumpy))) - 29) <= 2


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.webm"])
def test_other_containers(tmp_path: Path, name: str) -> None:
    codec = ("-c:v", "libvpx", "-deadline", "realtime") if name == "a.webm" else ()
    assert len(read(write_video(tmp_path / name, panned_frames(5), options=codec))) == 5


def test_odd_sides_are_made_even(tmp_path: Path) -> None:
    odd = [image[:-1, :-1] for image in panned_frames(3)]
    (first, *_) = read(write_video(tmp_path / "a.mp4", odd, options=("-pix_fmt", "yuv444p")))
    assert first.shape == (HEIGHT - 2, WIDTH - 2, 3)


def test_wide_pixels_are_made_square(tmp_path: Path) -> None:
    (first, *_) = read(
        write_video(tmp_path / "a.mp4", panned_frames(3), options=("-vf", "setsar=2/1", "-pix_fmt", "yuv420p"))
    )
    assert first.shape == (HEIGHT, 2 * WIDTH, 3)


def test_rotation_is_honoured(tmp_path: Path, source: Path) -> None:
    turned = tmp_path / "turned.mp4"
    try:
        run_ffmpeg(["-display_rotation", "90", "-i", str(source), "-c", "copy", str(turned)])
    except subprocess.CalledProcessError:  # ffmpeg before 6
        run_ffmpeg(["-i", str(source), "-c", "copy", "-metadata:s:v", "rotate=270", str(turned)])
    first = read(turned)[0]
    # Which way the two spellings turn differs between versions of ffmpeg.
    assert max(psnr(first, np.ascontiguousarray(np.rot90(panned_frames(1)[0], turns))) for turns in (1, 3)) > 30


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colours_survive_the_file_s_own_matrix(tmp_path: Path, matrix: str) -> None:
    colours = np.zeros((64, 96, 3), np.uint8)
    colours[:, :32], colours[:, 32:64], colours[:, 64:] = (200, 30, 30), (30, 180, 30), (40, 40, 210)
    options = ("-vf", f"scale=out_color_matrix={matrix}", "-colorspace", matrix, "-pix_fmt", "yuv444p", "-crf", "1")
    first = read(write_video(tmp_path / "a.mp4", [colours] * 3, options=options))[0]
    assert np.abs(first[20:40, 8:24].astype(int) - colours[20:40, 8:24]).max() <= 6
    assert np.abs(first[20:40, 72:88].astype(int) - colours[20:40, 72:88]).max() <= 6


def ten_bit(curve: str) -> tuple[str, ...]:
    tags = f"setparams=color_primaries=bt2020:colorspace=bt2020nc:color_trc={curve}"
    encoder = ("-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-color_trc", curve)
    return ("-vf", f"format=yuv420p10le,{tags}", *encoder)  # one ffmpeg takes them from the frames, another from here


@pytest.mark.parametrize("curve", ["smpte2084", "arib-std-b67"])
def test_hdr_becomes_an_ordinary_picture(tmp_path: Path, curve: str) -> None:
    """Colours come out stronger than the flat signal that carries them."""
    found, flat = (
        read(write_video(tmp_path / f"{one}.mp4", panned_frames(3), options=ten_bit(one)))
        for one in (curve, "bt2020-10")
    )
    assert len(found) == len(flat) == 3
    assert float(np.ptp(found[0], axis=2).mean()) > 1.05 * float(np.ptp(flat[0], axis=2).mean())


def test_hdr_without_the_filters_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_can_tone_map", lambda: False)
    source = write_video(tmp_path / "a.mp4", panned_frames(3), options=ten_bit("smpte2084"))
    with VideoReader(source, RATE) as frames:
        assert len(list(frames)) == 3
        assert "cannot convert" in frames.warnings[0] and "zscale" in frames.warnings[0]


def combed(image: Image) -> float:
    """How much neighbouring lines differ more than lines two apart do."""
    rows = image.astype(int)
    return float(np.abs(np.diff(rows, axis=0)).mean() - np.abs(rows[2:] - rows[:-2]).mean())


def test_interlaced_films_lose_their_combs(tmp_path: Path) -> None:
    fields = [np.roll(portrait()[40:200, 115:307], 6 * i, axis=1) for i in range(20)]
    woven = [
        np.where(np.arange(160)[:, None, None] % 2 == 0, *pair) for pair in zip(fields[::2], fields[1::2], strict=True)
    ]
    flags = ("-pix_fmt", "yuv420p", "-crf", "12", "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    marked = read(write_video(tmp_path / "a.mp4", woven, options=flags))
    plain = read(write_video(tmp_path / "b.mp4", woven, options=("-pix_fmt", "yuv420p", "-crf", "12")))
    assert len(marked) == len(plain) == 10
    assert combed(plain[4]) > 4  # not marked: left alone
    assert combed(marked[4]) < 0.3 * combed(plain[4])


def test_a_film_that_is_damaged_in_the_middle_goes_on_and_says_so(tmp_path: Path, source: Path) -> None:
    data = bytearray(source.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 400):
        data[place] ^= 0x5A
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with VideoReader(broken, RATE) as frames:
        count = len(list(frames))
        assert "the file is damaged in places" in frames.warnings[0]
    with VideoReader(source, RATE) as frames:
        assert len(list(frames)) == count
        assert frames.warnings == ()


def test_frames_before_the_first_key_frame_are_left_out(tmp_path: Path) -> None:
    """A recording that was cut without regard to key frames. The first decoded frame does not fill the gap."""
    options = ("-pix_fmt", "yuv420p", "-g", "25", "-bf", "0")
    data = write_video(tmp_path / "a.ts", panned_frames(50), options=options).read_bytes()
    packets = [data[k : k + 188] for k in range(0, len(data), 188)]
    video = [k for k, packet in enumerate(packets) if (packet[1] & 0x1F) << 8 | packet[2] == 0x100]
    first_kept = [k for k in video if packets[k][1] & 0x40][5]  # the sixth frame
    kept = [packet for k, packet in enumerate(packets) if k not in video or k >= first_kept]
    (tmp_path / "cut.ts").write_bytes(b"".join(kept))
    assert len(read(tmp_path / "cut.ts")) == 25


def test_leaving_early_stops_the_child(source: Path) -> None:
    with VideoReader(source, RATE) as frames:
        next(iter(frames))
        child = frames._child
    assert child.poll() is not None


def test_no_child_left_after_an_error(tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", grey_frames(60))
    with pytest.raises(BadMedia), VideoReader(long, RATE, SourceLimits(max_seconds=1)) as frames:
        list(frames)
    assert frames._child.poll() is not None


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "film.mp4"
    if kind == "missing":
        return path
    write_video(path, panned_frames(30))
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "cut, its index at the end": whole[: len(whole) // 2],
        "text": b"this is not a film at all, whatever it is called",
        "m3u8": f"#EXTM3U\n#EXTINF:1,\nfile://{path}\n".encode(),
        "concat": f"ffconcat version 1.0\nfile {path}\n".encode(),
        "rubbish after the magic": whole[:12] + os.urandom(4000),
    }
    if kind == "cut, its index in front":
        fast = tmp_path / "fast.mp4"
        run_ffmpeg(["-i", str(path), "-c", "copy", "-movflags", "+faststart", str(fast)])
        path.write_bytes(fast.read_bytes()[: fast.stat().st_size * 2 // 3])
    elif kind == "cut webm":
        write_video(tmp_path / "film.mkv", panned_frames(60))
        path.write_bytes((tmp_path / "film.mkv").read_bytes()[:-3000])
    elif kind == "sound only":
        run_ffmpeg(["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(path)])
    else:
        path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "cannot be read"),
        ("empty", "is empty"),
        ("cut, its index at the end", "holiday.mp4 is cut off"),
        ("cut, its index in front", "holiday.mp4 is cut off"),
        ("cut webm", "holiday.mp4 is cut off"),
        ("text", "holiday.mp4 is not a video or image"),
        ("m3u8", "holiday.mp4 is a list of other files"),
        ("concat", "holiday.mp4 is a list of other files"),
        ("rubbish after the magic", "holiday.mp4 (cannot be decoded|is cut off)"),
        ("sound only", "holiday.mp4 holds no video"),
    ],
)
def test_bad_films_are_refused_in_plain_words(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(BadMedia, match=message) as caught:
        read(broken(tmp_path, kind), name="holiday.mp4")
    assert str(tmp_path) not in str(caught.value)


def test_too_long_and_too_large(source: Path) -> None:
    with pytest.raises(BadMedia, match=r"film.mp4 is longer than 0.5 s"):
        read(source, limits=SourceLimits(max_seconds=0.5))
    with pytest.raises(BadMedia, match=r"film.mp4 is too large"):
        read(source, limits=SourceLimits(max_pixels=100 * 100))


def test_a_decoder_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path) -> None:
    asleep = tmp_path / "ffmpeg"
    asleep.write_text("#!/bin/sh\nexec sleep 60\n")
    asleep.chmod(0o755)
    monkeypatch.setattr(video_decode, "compile_command", lambda output, *options: [str(asleep)])
    monkeypatch.setattr(video_decode, "STALL_S", 0.2)
    with pytest.raises(BadMedia, match="takes too long to decode"):
        read(source)


def test_missing_ffmpeg_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    find_ffmpeg.cache_clear()
    monkeypatch.setenv("WARMTALK_FFMPEG", "no-such-program")
    try:
        with pytest.raises(NotReady, match="WARMTALK_FFMPEG"):
            read(source)
    finally:
        find_ffmpeg.cache_clear()


def png_of_size(width: int, height: int) -> bytes:
    """A header that promises much; nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_photo_has_even_sides(tmp_path: Path, name: str) -> None:
    image = decode_photo(write_photo(tmp_path / name, portrait()[:301, :201]))
    assert image.shape == (300, 200, 3)
    assert psnr(image, portrait()[:300, :200]) > 30


def test_large_photo_is_scaled_down(tmp_path: Path) -> None:
    large = cv2.resize(portrait(), (3000, 2000))
    assert decode_photo(write_photo(tmp_path / "a.jpg", np.asarray(large, np.uint8))).shape == (1280, MAX_SIDE, 3)


def test_photo_is_turned_upright(tmp_path: Path) -> None:
    plain = write_photo(tmp_path / "a.jpg", portrait()[:, :300]).read_bytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"  # orientation 6
    exif = b"Exif\0\0" + tiff
    (tmp_path / "b.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    assert decode_photo(tmp_path / "b.jpg").shape == (300, 512, 3)


def test_bad_photos_are_refused_in_plain_words(tmp_path: Path) -> None:
    whole = write_photo(tmp_path / "a.jpg", portrait()).read_bytes()
    cases = {
        "is cut off": whole[:3000],
        "is too large: 60000 x 60000": png_of_size(60000, 60000),
        "cannot be decoded": png_of_size(60, 60) + b"IEND\xaeB`\x82",
        "is a GIF": b"GIF89a.............",
        "is a PDF": b"%PDF-1.7\n",
        "is an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "is a HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "is not a video or image": b"hello",
        "is empty": b"",
    }
    for message, content in cases.items():
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(BadMedia, match=message):
            decode_photo(tmp_path / "b")


def test_segment_is_read_back_frame_for_frame(tmp_path: Path) -> None:
    images = panned_frames(SEGMENT_FRAMES)
    with SegmentWriter(tmp_path / "00000.mp4", WIDTH, HEIGHT, Fraction(30000, 1001)) as writer:
        for image in images:
            writer.write_frame(image)
    back = read_segment(tmp_path / "00000.mp4", SEGMENT_FRAMES)
    assert all(psnr(a, b) > 35 for a, b in zip(back, images, strict=True))
    assert abs(float(np.mean(back[0].astype(int) - images[0]))) < 2  # no colour cast


def test_segment_of_one_frame(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path / "a.mp4", WIDTH, HEIGHT, RATE) as writer:
        writer.write_frame(panned_frames(1)[0])
    assert len(read_segment(tmp_path / "a.mp4", 1)) == 1


def test_broken_off_segment_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), SegmentWriter(tmp_path / "a.mp4", WIDTH, HEIGHT, RATE) as writer:
        writer.write_frame(panned_frames(1)[0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_full_volume_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageFull), SegmentWriter(tmp_path / "a.mp4", WIDTH, HEIGHT, RATE) as writer:
        for image in panned_frames(30):
            writer.write_frame(image)
    assert list(tmp_path.iterdir()) == []
