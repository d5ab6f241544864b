"""Small files of every kind that is taken, and ways to spoil them. The same seed gives the same files."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from tests.audio import syllables, wav
from tests.footage import panned_frames, portrait, run_ffmpeg, write_photo, write_video

FILMS = {
    "mp4": ("-pix_fmt", "yuv420p", "-g", "5"),
    "mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mkv": ("-pix_fmt", "yuv420p", "-bf", "2"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "avi": ("-c:v", "mpeg4"),
    "mpg": ("-c:v", "mpeg2video"),
    "ts": ("-pix_fmt", "yuv420p"),
}
PHOTOS = ("jpg", "png", "webp")
SOUNDS = {"wav": (), "mp3": (), "flac": (), "ogg": ("-c:a", "libvorbis"), "opus": ("-c:a", "libopus", "-f", "ogg")}
_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def whole_files(folder: Path) -> dict[str, bytes]:
    """One good file of each kind, by its ending."""
    for kind, options in FILMS.items():
        write_video(folder / f"a.{kind}", panned_frames(12), options=options)
    for kind in PHOTOS:
        write_photo(folder / f"a.{kind}", portrait()[40:200, 115:307])
    (folder / "a.wav").write_bytes(wav(syllables(0.4)))
    for kind, sound in SOUNDS.items():
        if kind != "wav":
            run_ffmpeg(["-i", str(folder / "a.wav"), *sound, str(folder / f"a.{kind}")])
    return {kind: (folder / f"a.{kind}").read_bytes() for kind in (*FILMS, *PHOTOS, *SOUNDS)}


def spoiled(files: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """(kind, content) of spoiled file `number`: one to three things are wrong with it."""
    random = Random(number)
    kind = sorted(files)[number % len(files)]
    data = bytearray(files[kind])
    for _ in range(random.randint(1, 3)):
        _spoil(data, random, files)
    return kind, bytes(data)


def _spoil(data: bytearray, random: Random, files: dict[str, bytes]) -> None:
    # Half of all that is wrong is wrong near the front, where the headers are.
    place = random.randrange(max(min(len(data), random.choice((64, 1024, len(data)))), 1))
    length = random.choice((1, 4, 16, 256, 4096))
    match random.randrange(9):
        case 0:
            for _ in range(random.choice((1, 8, 64))):
                at = random.randrange(max(len(data), 1))
                data[at : at + 1] = bytes([random.randrange(256)])
        case 1:
            data[place : place + 4] = struct.pack(random.choice((">I", "<I")), random.choice(_NUMBERS))
        case 2:
            data[place : place + 1] = bytes([(data[place] if place < len(data) else 0) ^ 1 << random.randrange(8)])
        case 3:
            del data[place:]
        case 4:
            del data[place : place + length]
        case 5:
            data[place:place] = data[place : place + length] * random.choice((1, 50))
        case 6:
            data[place : place + length] = bytes(length)
        case 7:
            data[place : place + length] = random.randbytes(length)
        case _:
            other = files[random.choice(sorted(files))]
            data[place:] = other[random.randrange(len(other)) :]
