"""Clips to write, and PyAV as the independent reader of files that ffmpeg has written."""

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
class DecodedVideo:
    """A decoded file."""

    frames: list[Image]
    """BGR."""
    times: list[Fraction]
    """Time of each frame, in seconds."""
    pcm: npt.NDArray[np.int16]
    packet_starts: list[int]
    """First sample of each audio packet, by the file."""
    rate_hz: int
    duration_s: float
    """Duration by the head of the file."""
    keyframes: list[int]
    """Indices of the key frames."""


def decode_video(path: Path) -> DecodedVideo:
    """Decodes the first video and the first audio stream."""
    frames, times, keyframes = [], [], []
    with av.open(str(path)) as file:
        duration_s = float((file.duration or 0) / 1e6)
        for index, frame in enumerate(file.decode(video=0)):
            frames.append(frame.to_ndarray(format="bgr24", src_colorspace="ITU709"))
            times.append(frame.pts * frame.time_base)
            if frame.key_frame:
                keyframes.append(index)
    pcm, packet_starts, rate = [np.zeros(0, np.int16)], [], 0
    with av.open(str(path)) as file:
        for audio in file.decode(audio=0):
            packet_starts.append(audio.pts)
            rate = audio.sample_rate
            pcm.append(audio.to_ndarray().reshape(-1))
    return DecodedVideo(frames, times, np.concatenate(pcm), packet_starts, rate, duration_s, keyframes)


def to_pcm(samples: Samples) -> npt.NDArray[np.int16]:
    """Converts like ClipWriter."""
    return np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def tone(samples: int, start: int = 0, hz: float = 440.0) -> Samples:
    """Returns a tone at 48 kHz that continues a tone of `start` samples."""
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * (np.arange(samples) + start) / CLIP_RATE_HZ), np.float32)


def numbered_frame(number: int, width: int = 64, height: int = 48) -> Image:
    """Returns a frame whose grey level and coloured bar depend on `number`."""
    image = np.full((height, width, 3), 40 + number % 100, np.uint8)
    image[:, : number % width] = (200, 120, 60)
    return image


def write_clip(
    path: Path, clock: FrameClock, first: int, frames: int, *, missing: int = 0, x264: X264Settings | None = None
) -> tuple[ClipFile, npt.NDArray[np.int16]]:
    """Writes a clip, a continuation of the tone and frames of the clip before. Returns the clip and the samples.

    `missing` samples are not written, so that the writer pads with silence.
    """
    writer = ClipWriter(path, 64, 48, clock, first, x264)
    start = clock.samples_at(first, CLIP_RATE_HZ)
    samples = clock.samples_at(first + frames, CLIP_RATE_HZ) - start
    audio = tone(samples - missing, start)
    for number in range(frames):
        writer.write_bgr(numbered_frame(first + number))
    writer.write_audio(audio)
    return writer.finish(), np.pad(to_pcm(audio), (0, missing))
