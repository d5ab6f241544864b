"""PyAV as the independent reader of what ffmpeg wrote, and clips to write."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.concat import ClipFile
from warmtalk.media.h264 import X264Settings


@dataclass(frozen=True, slots=True)
class Film:
    """A decoded file."""

    pictures: list[Image]
    """BGR."""
    times: list[Fraction]
    """Of each picture, in seconds."""
    pcm: npt.NDArray[np.int16]
    starts: list[int]
    """First sample of each sound packet, as the file says."""
    rate_hz: int
    seconds: float
    """As the head of the file says."""
    keys: list[int]
    """Numbers of the key frames."""


def read(path: Path) -> Film:
    pictures, times, keys = [], [], []
    with av.open(str(path)) as file:
        seconds = float((file.duration or 0) / 1e6)
        for number, frame in enumerate(file.decode(video=0)):
            pictures.append(frame.to_ndarray(format="bgr24", src_colorspace="ITU709"))
            times.append(frame.pts * frame.time_base)
            if frame.key_frame:
                keys.append(number)
    pcm, starts, rate = [np.zeros(0, np.int16)], [], 0
    with av.open(str(path)) as file:
        for sound in file.decode(audio=0):
            starts.append(sound.pts)
            rate = sound.sample_rate
            pcm.append(sound.to_ndarray().reshape(-1))
    return Film(pictures, times, np.concatenate(pcm), starts, rate, seconds, keys)


def to_pcm(samples: Samples) -> npt.NDArray[np.int16]:
    return np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def tone(samples: int, start: int = 0, hz: float = 440.0) -> Samples:
    """Goes on where a tone of `start` samples ended."""
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * (np.arange(samples) + start) / CLIP_RATE_HZ), np.float32)


def picture(number: int, width: int = 64, height: int = 48) -> Image:
    image = np.full((height, width, 3), 40 + number % 100, np.uint8)
    image[:, : number % width] = (200, 120, 60)
    return image


def write_clip(
    path: Path, clock: FrameClock, first: int, frames: int, *, missing: int = 0, x264: X264Settings | None = None
) -> tuple[ClipFile, npt.NDArray[np.int16]]:
    """A clip whose tone and picture go on from the clip before, and its samples; `missing` are left to be padded."""
    writer = ClipWriter(path, 64, 48, clock, first, x264)
    begin = clock.samples_at(first, CLIP_RATE_HZ)
    samples = clock.samples_at(first + frames, CLIP_RATE_HZ) - begin
    sound = tone(samples - missing, begin)
    for number in range(frames):
        writer.write_bgr(picture(first + number))
    writer.write_audio(sound)
    return writer.finish(), np.pad(to_pcm(sound), (0, missing))
