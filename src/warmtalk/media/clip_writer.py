"""Writes frames and audio to one clip: H.264 and FLAC in MP4.

Frames are encoded in this process and spooled as fragments; audio is spooled as 16-bit PCM in a second file. An ffmpeg
child muxes both at the end. Frames that a live stream has encoded already are copied.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import ffmpeg
import numpy as np
from ffmpeg.nodes import OutputStream

from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media import mp4_boxes
from warmtalk.media.concat import ClipFile, publish_file
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.ffmpeg_process import FfmpegProcess, remove_files, storage_errors
from warmtalk.media.fmp4_writer import Packet, TrackRun, build_fragment
from warmtalk.media.h264 import EncodedPicture, H264Encoder, X264Settings
from warmtalk.media.i420 import I420, to_i420

_SAMPLE_BYTES = 2
_FADE_SAMPLES = 144
"""Length of the fade-out before a cut: 3 ms."""
_ACTIVITY = "writing a clip"
_MUXING = "muxing video and audio"
_ABORTED = "the clip was aborted"


class ClipWriter:
    """Writes one clip. One thread at a time calls the writer, and calls may block; `abort` is for any thread, any time.

    `first_frame` is the clip's position in the conversation, in frames. By the conversation's clock the clip gets
    exactly the samples from the start of the first frame to the end of the last frame. End with `finish` or `abort`.
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
        """`width` and `height` are the size of the frames. `live` is for clips of mostly encoded frames: all other
        frames are encoded on one thread, without delay. Raises NotReady without ffmpeg, StorageFull.
        """
        find_ffmpeg()
        self._target = target
        self._clock = clock
        self._first = first_frame
        self._height, self._width = height + height % 2, width + width % 2
        self._lock = threading.Lock()
        self._live = live
        self._aborted = False
        self._muxer: FfmpegProcess | None = None
        # Unique names: a muxer that outlived a killed service must not read or write the files of this clip.
        unique = uuid.uuid4().hex[:8]
        self._video_path = target.with_name(f"{target.name}.{unique}.video.tmp")
        self._audio_path = target.with_name(f"{target.name}.{unique}.sound.tmp")
        self._muxed_path = target.with_name(f"{target.name}.{unique}.tmp")
        self.frames = 0
        self._end_offsets: list[int] = []
        """Size of the video spool after each frame in the spool, in bytes."""
        self._encoder_is_current = True
        """True when the last frame was encoded here, so that the encoder may refer to the frame."""
        self._encoder = H264Encoder(
            self._width, self._height, x264 or X264Settings(), clock, video_timescale(clock), live=live
        )
        self.parameter_sets = self._encoder.parameter_sets
        """See H264Encoder. Encoded frames must come from a stream with the same parameter sets."""
        try:
            with storage_errors(_ACTIVITY):
                self._video_spool = open(self._video_path, "wb")  # noqa: SIM115 - closed by finish or abort
                self._audio_spool = open(self._audio_path, "wb")  # noqa: SIM115
                self._video_spool.write(self._encoder.head)
        except BaseException:
            self._encoder.close()
            remove_files(self._video_path, self._audio_path)
            raise

    def write_bgr(self, image: Image) -> None:
        """Encodes [H, W, 3] uint8 BGR as the next frame. Raises like `write_i420`."""
        self.write_i420(to_i420(image))

    def write_i420(self, frame: I420) -> None:
        """Encodes the next frame. Raises StorageFull, or WarmtalkError after `abort`."""
        if frame.shape != (self._height * 3 // 2, self._width):
            raise ValueError(f"an I420 frame of {self._width} x {self._height} is not {frame.shape}")
        with self._exclusive():
            self.frames += 1
            self._spool(self._encoder.encode(frame, keyframe=not self._encoder_is_current))
            self._encoder_is_current = True

    def write_encoded(self, picture: EncodedPicture) -> None:
        """Copies the next frame as a live stream has encoded the frame: a key frame, or the frame that follows the
        last one in that stream. Only for a `live` clip: the encoder of other clips holds frames back. Raises like
        `write_i420`.
        """
        if not self._live:
            raise ValueError("encoded frames go into live clips alone")
        with self._exclusive():
            self.frames += 1
            self._spool([picture])
            self._encoder_is_current = False

    def write_audio(self, samples: Samples) -> None:
        """Appends 48 kHz mono in [-1, 1], clipped beyond. Any number of samples, before or after their frames."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        with self._exclusive():
            self._audio_spool.write(pcm.tobytes())

    def finish(self, max_frames: int | None = None) -> ClipFile:
        """Returns the clip, on disk under its name. Audio is padded with silence, or cut, to the frames' length.

        `max_frames`, at least 1, cuts a longer clip by copy. Raises StorageFull or WarmtalkError; then call `abort`.
        """
        cut = max_frames is not None and max_frames < self.frames
        self.frames = min(self.frames, max_frames or self.frames)
        end = self._first + self.frames
        samples = self._clock.samples_at(end, CLIP_RATE_HZ) - self._clock.samples_at(self._first, CLIP_RATE_HZ)
        with self._exclusive():
            self._spool(self._encoder.flush())
            self._encoder.close()
            _close_at_size(self._video_spool, self._end_offsets[self.frames - 1])
            _close_at_size(self._audio_spool, samples * _SAMPLE_BYTES)
            if cut:
                _fade_out(self._audio_path)
        self._mux()
        publish_file(self._muxed_path, self._target, _ACTIVITY)
        remove_files(self._video_path, self._audio_path)
        return ClipFile(self._target, self.frames, samples)

    def abort(self) -> None:
        """Ends the muxer and leaves nothing on disk. Idempotent; does nothing to a finished clip."""
        self._aborted = True
        if self._muxer is not None:
            self._muxer.kill()
        with self._lock:
            self._encoder.close()
            for spool in (self._video_spool, self._audio_spool):
                if not spool.closed:
                    os.ftruncate(spool.fileno(), 0)
                    with contextlib.suppress(OSError):  # the disk may have no room for the buffered rest
                        spool.close()
        remove_files(self._video_path, self._audio_path, self._muxed_path)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds `abort` off for the duration. Raises WarmtalkError after `abort`."""
        with self._lock, storage_errors(_ACTIVITY):
            if self._aborted:
                raise WarmtalkError(_ABORTED)
            yield

    def _spool(self, pictures: list[EncodedPicture]) -> None:
        """Writes a fragment per frame. Without B-frames a prefix of the spool is a prefix of the frames."""
        ticks = int(video_timescale(self._clock) / self._clock.fps)
        for picture in pictures:
            index = len(self._end_offsets)
            packet = Packet(picture.data, ticks, picture.keyframe)
            self._video_spool.write(build_fragment(index + 1, [TrackRun(1, index * ticks, [packet])]))
            self._end_offsets.append(self._video_spool.tell())

    def _mux(self) -> None:
        output = _mux_output(self._video_path, self._audio_path, self._muxed_path, video_timescale(self._clock))
        self._muxer = FfmpegProcess(output)
        if self._aborted:
            self._muxer.kill()
        try:
            self._muxer.check_exit(_MUXING)
        except WarmtalkError as error:
            raise WarmtalkError(_ABORTED) if self._aborted else error from None
        if not mp4_boxes.is_complete(self._muxed_path):
            raise WarmtalkError(f"ffmpeg left an incomplete file while {_MUXING}: {self._muxer.stderr_tail}")


def _close_at_size(spool: IO[bytes], size: int) -> None:
    """Cuts the file, or pads the file with zeros, to `size` bytes and closes it."""
    spool.flush()
    spool.truncate(size)
    spool.close()


def _fade_out(spool: Path) -> None:
    """Fades the end of 16-bit audio to silence, so that the cut does not click."""
    with open(spool, "r+b") as file:
        file.seek(max(0, spool.stat().st_size - _FADE_SAMPLES * _SAMPLE_BYTES))
        offset = file.tell()
        tail = np.frombuffer(file.read(), "<i2")
        file.seek(offset)
        file.write((tail * np.linspace(1, 0, len(tail))).astype("<i2").tobytes())


def _mux_output(video: Path, audio: Path, target: Path, ticks_hz: int) -> OutputStream:
    frames = ffmpeg.input(f"file:{video.absolute()}", f="mov")
    pcm = ffmpeg.input(f"file:{audio.absolute()}", f="s16le", ar=CLIP_RATE_HZ, ac=1)
    return ffmpeg.output(
        frames["v"],
        pcm["a"],
        f"file:{target.absolute()}",
        f="mp4",
        vcodec="copy",
        acodec="flac",
        sample_fmt="s16",
        strict=-2,
        video_track_timescale=ticks_hz,
        fflags="+bitexact",
        movflags="+faststart",
    )


def video_timescale(clock: FrameClock) -> int:
    """Returns the ticks per second of the video track: a whole number per frame, and at least 10,000."""
    frames_hz = clock.fps.numerator
    return frames_hz * -(-10_000 // frames_hz)
