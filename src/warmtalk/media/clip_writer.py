"""Writes frames and audio to one clip: H.264 and FLAC in MP4.

Frames are encoded in this process and spooled with the audio. An ffmpeg child muxes both at the end. Frames that a live
stream has encoded already are copied.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import ffmpeg
from ffmpeg.nodes import OutputStream

from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media import mp4_boxes
from warmtalk.media.clip_spool import ClipSpool, video_timescale
from warmtalk.media.concat import ClipFile
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.ffmpeg_process import FfmpegProcess
from warmtalk.media.h264 import EncodedPicture, H264Encoder, X264Settings
from warmtalk.media.i420 import I420, to_i420
from warmtalk.media.storage import publish_file, storage_errors

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
        self._live = live
        self._lock = threading.Lock()
        self._aborted = False
        self._muxer: FfmpegProcess | None = None
        self.frames = 0
        self._encoder_is_current = True
        """True when the last frame was encoded here, so that the encoder may refer to the frame."""
        self._encoder = H264Encoder(
            self._width, self._height, x264 or X264Settings(), clock, video_timescale(clock), live=live
        )
        self.parameter_sets = self._encoder.parameter_sets
        """See H264Encoder. Encoded frames must come from a stream with the same parameter sets."""
        try:
            with storage_errors(_ACTIVITY):
                self._spool = ClipSpool(target, clock, self._encoder.head)
        except BaseException:
            self._encoder.close()
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
            self._write_pictures(self._encoder.encode(frame, keyframe=not self._encoder_is_current))
            self._encoder_is_current = True

    def write_encoded(self, picture: EncodedPicture) -> None:
        """Copies the next frame from a live stream: a key frame, or the successor of the last frame in that stream.

        Only for a `live` clip: the encoder of other clips holds frames back. Raises like `write_i420`.
        """
        if not self._live:
            raise ValueError("encoded frames go into live clips alone")
        with self._exclusive():
            self.frames += 1
            self._write_pictures([picture])
            self._encoder_is_current = False

    def write_audio(self, samples: Samples) -> None:
        """Appends 48 kHz mono in [-1, 1], clipped beyond. Any number of samples, before or after their frames."""
        with self._exclusive():
            self._spool.write_audio(samples)

    def finish(self, max_frames: int | None = None) -> ClipFile:
        """Returns the clip, on disk under its name. Audio is padded with silence, or cut, to the frames' length.

        `max_frames`, at least 1, cuts a longer clip by copy. Raises StorageFull or WarmtalkError; then call `abort`.
        """
        cut = max_frames is not None and max_frames < self.frames
        self.frames = min(self.frames, max_frames or self.frames)
        end = self._first + self.frames
        samples = self._clock.samples_at(end, CLIP_RATE_HZ) - self._clock.samples_at(self._first, CLIP_RATE_HZ)
        with self._exclusive():
            self._write_pictures(self._encoder.flush())
            self._encoder.close()
            self._spool.close(self.frames, samples, fade_out=cut)
        self._mux()
        publish_file(self._spool.muxed_path, self._target, _ACTIVITY)
        self._spool.remove()
        return ClipFile(self._target, self.frames, samples)

    def abort(self) -> None:
        """Ends the muxer and leaves nothing on disk. Idempotent; does nothing to a finished clip."""
        self._aborted = True
        if self._muxer is not None:
            self._muxer.kill()
        with self._lock:
            self._encoder.close()
            self._spool.discard()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds `abort` off for the duration. Raises WarmtalkError after `abort`."""
        with self._lock, storage_errors(_ACTIVITY):
            if self._aborted:
                raise WarmtalkError(_ABORTED)
            yield

    def _write_pictures(self, pictures: list[EncodedPicture]) -> None:
        for picture in pictures:
            self._spool.write_picture(picture)

    def _mux(self) -> None:
        spool = self._spool
        timescale = video_timescale(self._clock)
        self._muxer = FfmpegProcess(_mux_output(spool.video_path, spool.audio_path, spool.muxed_path, timescale))
        if self._aborted:
            self._muxer.kill()
        try:
            self._muxer.check_exit(_MUXING)
        except WarmtalkError as error:
            raise WarmtalkError(_ABORTED) if self._aborted else error from None
        if not mp4_boxes.is_complete(spool.muxed_path):
            raise WarmtalkError(f"ffmpeg left an incomplete file while {_MUXING}: {self._muxer.stderr_tail}")


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
