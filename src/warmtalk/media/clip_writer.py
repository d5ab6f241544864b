"""Frames and sound to one clip: H.264 and FLAC in MP4.

Pictures are coded in this process and spooled as fragments, sound beside it as 16-bit PCM; an ffmpeg child muxes both
at the end. What a live stream has coded already is taken as it is.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media import mp4_boxes
from warmtalk.media.concat import ClipFile, publish_file
from warmtalk.media.ffmpeg_process import FfmpegProcess, remove_files, storage_errors
from warmtalk.media.file_types import find_ffmpeg
from warmtalk.media.fmp4_writer import Packet, TrackRun, build_fragment
from warmtalk.media.h264 import EncodedPicture, H264Encoder, X264Settings
from warmtalk.media.i420 import I420, to_i420

_SAMPLE_BYTES = 2
_FADE = 144
"""Samples, 3 ms, that fade before a cut."""
_DOING = "writing a clip"
_MUXING = "joining picture and sound"
_GIVEN_UP = "the clip was given up"


class ClipWriter:
    """Writes one clip. One thread at a time calls it, and it may block; `abort` is for any thread, any time.

    `first_frame` is where the clip starts in its conversation: the clip gets exactly the samples from the start of
    its first frame to the end of its last one by the conversation's clock. Leave it by `finish` or `abort`.
    """

    def __init__(
        self,
        target: Path,
        width: int,
        height: int,
        clock: FrameClock,
        first_frame: int = 0,
        x264: X264Settings | None = None,
        *,
        live: bool = False,
    ) -> None:
        """`width` and `height` are those of the frames. `live`: most pictures come coded; those that do not take
        one thread. Raises NotReady without ffmpeg, StorageFull.
        """
        find_ffmpeg()
        self._target = target
        self._clock = clock
        self._first = first_frame
        self._shape = (height + height % 2, width + width % 2)
        self._lock = threading.Lock()
        self._live = live
        self._aborted = False
        self._muxer: FfmpegProcess | None = None
        # A name of their own: a muxer that outlived a killed service must not read or write this clip's.
        own = uuid.uuid4().hex[:8]
        self._video = target.with_name(f"{target.name}.{own}.video.tmp")
        self._sound = target.with_name(f"{target.name}.{own}.sound.tmp")
        self._muxed = target.with_name(f"{target.name}.{own}.tmp")
        self.frames = 0
        self._ends: list[int] = []
        """Bytes of the video spool with each picture that is in it."""
        self._own = True
        """The last picture was coded here."""
        self._coder = H264Encoder(*self._shape[::-1], x264 or X264Settings(), clock, video_timescale(clock), live=live)
        self.parameter_sets = self._coder.parameter_sets
        """As in H264Encoder. Coded pictures must come from a stream that has the same."""
        try:
            with storage_errors(_DOING):
                self._pictures = open(self._video, "wb")  # noqa: SIM115 - closed by finish or abort
                self._samples = open(self._sound, "wb")  # noqa: SIM115
                self._pictures.write(self._coder.head)
        except BaseException:
            self._coder.close()
            remove_files(self._video, self._sound)
            raise

    def write_bgr(self, image: Image) -> None:
        """[H, W, 3] uint8 BGR."""
        self.write_i420(to_i420(image))

    def write_i420(self, image: I420) -> None:
        """Raises StorageFull, or WarmtalkError once it is given up."""
        height, width = self._shape
        if image.shape != (height * 3 // 2, width):
            raise ValueError(f"an I420 picture of {width} x {height} is not {image.shape}")
        with self._wanted():
            self.frames += 1
            self._spool(self._coder.encode(image, keyframe=not self._own))
            self._own = True

    def write_encoded(self, picture: EncodedPicture) -> None:
        """The next picture as a live stream has coded it: a key picture, or the one that follows there on the one that
        was written last. Only into a `live` clip: another's coder holds pictures back. Raises as write_i420.
        """
        if not self._live:
            raise ValueError("coded pictures go into live clips alone")
        with self._wanted():
            self.frames += 1
            self._spool([picture])
            self._own = False

    def write_audio(self, samples: Samples) -> None:
        """48 kHz mono in [-1, 1]; what is beyond is clipped. Any number of samples, before or after its frames."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        with self._wanted():
            self._samples.write(pcm.tobytes())

    def finish(self, max_frames: int | None = None) -> ClipFile:
        """The clip, on disk under its name. Sound is padded with silence, or cut, to the frames' length.

        `max_frames`, at least 1, cuts a longer clip there, by copy. Raises StorageFull or WarmtalkError; call
        `abort` then.
        """
        cut = max_frames is not None and max_frames < self.frames
        self.frames = min(self.frames, max_frames or self.frames)
        last = self._first + self.frames
        samples = self._clock.samples_at(last, CLIP_RATE_HZ) - self._clock.samples_at(self._first, CLIP_RATE_HZ)
        with self._wanted():
            self._spool(self._coder.flush())
            self._coder.close()
            _end(self._pictures, self._ends[self.frames - 1])
            _end(self._samples, samples * _SAMPLE_BYTES)
            if cut:
                _fade_out(self._sound)
        self._mux()
        publish_file(self._muxed, self._target, _DOING)
        remove_files(self._video, self._sound)
        return ClipFile(self._target, self.frames, samples)

    def abort(self) -> None:
        """Ends the muxer and leaves nothing on disk. Idempotent; does nothing to a finished clip."""
        self._aborted = True
        if self._muxer is not None:
            self._muxer.kill()
        with self._lock:
            self._coder.close()
            for spool in (self._pictures, self._samples):
                if not spool.closed:
                    os.ftruncate(spool.fileno(), 0)
                    with contextlib.suppress(OSError):  # what it still holds may not find room
                        spool.close()
        remove_files(self._video, self._sound, self._muxed)

    @contextlib.contextmanager
    def _wanted(self) -> Iterator[None]:
        """Keeps `abort` out meanwhile, and nothing happens after it."""
        with self._lock, storage_errors(_DOING):
            if self._aborted:
                raise WarmtalkError(_GIVEN_UP)
            yield

    def _spool(self, pictures: list[EncodedPicture]) -> None:
        """There are no B-frames, so a prefix of the spool is a prefix of the pictures."""
        ticks = int(video_timescale(self._clock) / self._clock.fps)
        for picture in pictures:
            number = len(self._ends)
            packet = Packet(picture.data, ticks, picture.keyframe)
            self._pictures.write(build_fragment(number + 1, [TrackRun(1, number * ticks, [packet])]))
            self._ends.append(self._pictures.tell())

    def _mux(self) -> None:
        args = _mux_args(self._video, self._sound, self._muxed, video_timescale(self._clock))
        self._muxer = FfmpegProcess(args)
        if self._aborted:
            self._muxer.kill()
        try:
            self._muxer.check_exit(_MUXING)
        except WarmtalkError as error:
            raise WarmtalkError(_GIVEN_UP) if self._aborted else error from None
        if not mp4_boxes.is_complete(self._muxed):
            raise WarmtalkError(f"ffmpeg left half a file while {_MUXING}: {self._muxer.stderr_tail}")


def _end(spool: IO[bytes], size: int) -> None:
    """Cuts or pads it with zeros, and closes it."""
    spool.flush()
    spool.truncate(size)
    spool.close()


def _fade_out(spool: Path) -> None:
    """Brings the end of 16-bit sound to silence, so that a cut does not click."""
    with open(spool, "r+b") as file:
        file.seek(max(0, spool.stat().st_size - _FADE * _SAMPLE_BYTES))
        place = file.tell()
        tail = np.frombuffer(file.read(), "<i2")
        file.seek(place)
        file.write((tail * np.linspace(1, 0, len(tail))).astype("<i2").tobytes())


def _mux_args(video: Path, sound: Path, target: Path, ticks_hz: int) -> list[str]:
    pictures = ["-f", "mov", "-i", f"file:{video.absolute()}"]
    pcm = ["-f", "s16le", "-ar", str(CLIP_RATE_HZ), "-ac", "1", "-i", f"file:{sound.absolute()}"]
    codecs = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", "-sample_fmt", "s16", "-strict", "-2"]
    bits = ["-video_track_timescale", str(ticks_hz), "-fflags", "+bitexact", "-movflags", "+faststart"]
    return [*pictures, *pcm, *codecs, *bits, "-f", "mp4", "-y", f"file:{target.absolute()}"]


def video_timescale(clock: FrameClock) -> int:
    """Ticks per second of the video track, a whole number of them to each frame, and at least 10,000."""
    per_second = clock.fps.numerator
    return per_second * -(-10_000 // per_second)
