"""Small files of every supported kind, and mutations of these files. The same seed gives the same files."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from tests.audio import syllables, wav
from tests.footage import panned_frames, portrait, run_ffmpeg, write_photo, write_video

VIDEOS = {
    "mp4": ("-pix_fmt", "yuv420p", "-g", "5"),
    "mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mkv": ("-pix_fmt", "yuv420p", "-bf", "2"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "avi": ("-c:v", "mpeg4"),
    "mpg": ("-c:v", "mpeg2video"),
    "ts": ("-pix_fmt", "yuv420p"),
}
PHOTOS = ("jpg", "png", "webp")
AUDIO = {"wav": (), "mp3": (), "flac": (), "ogg": ("-c:a", "libvorbis"), "opus": ("-c:a", "libopus", "-f", "ogg")}
_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def valid_files(folder: Path) -> dict[str, bytes]:
    """Returns one valid file of each kind, by file ending."""
    for kind, options in VIDEOS.items():
        write_video(folder / f"a.{kind}", panned_frames(12), options=options)
    for kind in PHOTOS:
        write_photo(folder / f"a.{kind}", portrait()[40:200, 115:307])
    (folder / "a.wav").write_bytes(wav(syllables(0.4)))
    for kind, options in AUDIO.items():
        if kind != "wav":
            run_ffmpeg(["-i", str(folder / "a.wav"), *options, str(folder / f"a.{kind}")])
    return {kind: (folder / f"a.{kind}").read_bytes() for kind in (*VIDEOS, *PHOTOS, *AUDIO)}


def mutated_file(files: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Returns (kind, content) of mutated file `number`, with one to three mutations."""
    random = Random(number)
    kind = sorted(files)[number % len(files)]
    data = bytearray(files[kind])
    for _ in range(random.randint(1, 3)):
        _mutate(data, random, files)
    return kind, bytes(data)


def _mutate(data: bytearray, random: Random, files: dict[str, bytes]) -> None:
    # Half of the mutations are near the front of the file, where the headers are.
    offset = random.randrange(max(min(len(data), random.choice((64, 1024, len(data)))), 1))
    length = random.choice((1, 4, 16, 256, 4096))
    match random.randrange(9):
        case 0:
            for _ in range(random.choice((1, 8, 64))):
                position = random.randrange(max(len(data), 1))
                data[position : position + 1] = bytes([random.randrange(256)])
        case 1:
            data[offset : offset + 4] = struct.pack(random.choice((">I", "<I")), random.choice(_NUMBERS))
        case 2:
            data[offset : offset + 1] = bytes([(data[offset] if offset < len(data) else 0) ^ 1 << random.randrange(8)])
        case 3:
            del data[offset:]
        case 4:
            del data[offset : offset + length]
        case 5:
            data[offset:offset] = data[offset : offset + length] * random.choice((1, 50))
        case 6:
            data[offset : offset + length] = bytes(length)
        case 7:
            data[offset : offset + length] = random.randbytes(length)
        case _:
            other = files[random.choice(sorted(files))]
            data[offset:] = other[random.randrange(len(other)) :]
