"""Holds the encoded frames and the audio of a clip on disk until they are muxed."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import IO

import numpy as np

from warmtalk.core.types import FrameClock, Samples
from warmtalk.media.fmp4_writer import Packet, TrackRun, build_fragment
from warmtalk.media.h264 import EncodedPicture
from warmtalk.media.storage import remove_files

_SAMPLE_BYTES = 2
_FADE_SAMPLES = 144
"""Length of the fade-out before a cut: 3 ms."""


class ClipSpool:
    """Two files beside the clip: the video as fragmented MP4, one frame per fragment, and the audio as 16-bit PCM.

    One thread at a time. Every method may raise the OSError of a full disk. End with `close` and `remove` or `discard`.
    """

    def __init__(self, target: Path, clock: FrameClock, head: bytes) -> None:
        """Creates the files. `head` is ftyp and moov of the video."""
        # Unique names: a muxer that outlived a killed service must not read or write the files of this clip.
        unique = uuid.uuid4().hex[:8]
        self.video_path = target.with_name(f"{target.name}.{unique}.video.tmp")
        self.audio_path = target.with_name(f"{target.name}.{unique}.sound.tmp")
        self.muxed_path = target.with_name(f"{target.name}.{unique}.tmp")
        """Path for the output of the muxer."""
        self._frame_ticks = int(video_timescale(clock) / clock.fps)
        self._end_offsets: list[int] = []
        """Size of the video file after each frame, in bytes."""
        try:
            self._video = open(self.video_path, "wb")  # noqa: SIM115 - closed by close or discard
            self._audio = open(self.audio_path, "wb")  # noqa: SIM115
            self._video.write(head)
        except BaseException:
            self.remove()
            raise

    def write_picture(self, picture: EncodedPicture) -> None:
        """Appends the next frame. Without B-frames a prefix of the file is a prefix of the frames."""
        index = len(self._end_offsets)
        packet = Packet(picture.data, self._frame_ticks, picture.keyframe)
        self._video.write(build_fragment(index + 1, [TrackRun(1, index * self._frame_ticks, [packet])]))
        self._end_offsets.append(self._video.tell())

    def write_audio(self, samples: Samples) -> None:
        """Appends samples in [-1, 1], clipped beyond."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        self._audio.write(pcm.tobytes())

    def close(self, frames: int, samples: int, *, fade_out: bool) -> None:
        """Cuts the files to this length, or pads the audio with silence, and closes both.

        `fade_out` fades the end of the audio, so that a cut does not click.
        """
        _close_at_size(self._video, self._end_offsets[frames - 1])
        _close_at_size(self._audio, samples * _SAMPLE_BYTES)
        if fade_out:
            _fade_out(self.audio_path)

    def discard(self) -> None:
        """Closes and deletes all files. Idempotent."""
        for file in (self._video, self._audio):
            if not file.closed:
                os.ftruncate(file.fileno(), 0)
                with contextlib.suppress(OSError):  # the disk may have no room for the buffered rest
                    file.close()
        self.remove()
        remove_files(self.muxed_path)

    def remove(self) -> None:
        """Deletes the two files."""
        remove_files(self.video_path, self.audio_path)


def video_timescale(clock: FrameClock) -> int:
    """Returns the ticks per second of the video track: a whole number per frame, and at least 10,000."""
    frames_hz = clock.fps.numerator
    return frames_hz * -(-10_000 // frames_hz)


def _close_at_size(file: IO[bytes], size: int) -> None:
    """Cuts the file, or pads the file with zeros, to `size` bytes and closes it."""
    file.flush()
    file.truncate(size)
    file.close()


def _fade_out(path: Path) -> None:
    """Fades the end of 16-bit audio to silence."""
    with open(path, "r+b") as file:
        file.seek(max(0, path.stat().st_size - _FADE_SAMPLES * _SAMPLE_BYTES))
        offset = file.tell()
        tail = np.frombuffer(file.read(), "<i2")
        file.seek(offset)
        file.write((tail * np.linspace(1, 0, len(tail))).astype("<i2").tobytes())
