"""Frames and sound to one clip: H.264 and FLAC in MP4.

Two ffmpeg children, one after the other, so that nothing can wait for itself: the first is fed pictures as they come
and writes a video file, sound is spooled beside it as 16-bit PCM, the second muxes both at the end.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmtalk.core.errors import WarmtalkError
from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Image, Samples
from warmtalk.media import boxes
from warmtalk.media.concat import ClipFile, publish
from warmtalk.media.i420 import I420, to_i420
from warmtalk.media.process import Child, remove, storage

_SAMPLE_BYTES = 2
_FADE = 144
"""Samples, 3 ms, that fade before a cut."""
_DOING = "writing a clip"
_MUXING = "joining picture and sound"


@dataclass(frozen=True, slots=True)
class X264:
    """How pictures are encoded. All clips of a conversation need the same."""

    preset: str = "veryfast"
    crf: int = 18


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
        x264: X264 | None = None,
        *,
        background: bool = False,
    ) -> None:
        """`width` and `height` are those of the frames; `background` is for a clip that nobody waits for while it is
        written: one thread, after all who want the processor. Raises NotReady without ffmpeg, StorageFull.
        """
        self._target = target
        self._clock = clock
        self._first = first_frame
        self._shape = (height + height % 2, width + width % 2)
        self._background = background
        self._aborted = False
        # A name of their own: a child that outlived a killed service must not write into this clip.
        own = uuid.uuid4().hex[:8]
        self._video = target.with_name(f"{target.name}.{own}.video.tmp")
        self._sound = target.with_name(f"{target.name}.{own}.sound.tmp")
        self._cut = target.with_name(f"{target.name}.{own}.cut.tmp")
        self._muxed = target.with_name(f"{target.name}.{own}.tmp")
        self.frames = 0
        with storage(_DOING):
            self._spool = open(self._sound, "wb")  # noqa: SIM115 - closed by finish or abort
        try:
            args = _video_args(self._video, self._shape, clock, x264 or X264(), threads=1 if background else 0)
            self._child = Child(args, stdin=True, background=background)
        except BaseException:
            self._spool.close()
            remove(self._sound)
            raise

    def write_bgr(self, image: Image) -> None:
        """[H, W, 3] uint8 BGR."""
        self.write_i420(to_i420(image))

    def write_i420(self, image: I420) -> None:
        """Raises StorageFull, or WarmtalkError with ffmpeg's own words when it is gone."""
        height, width = self._shape
        if image.shape != (height * 3 // 2, width):
            raise ValueError(f"an I420 picture of {width} x {height} is not {image.shape}")
        try:
            self._child.stdin.write(np.ascontiguousarray(image).data)
        except (OSError, ValueError) as error:
            raise self._gone() from error
        self.frames += 1

    def write_sound(self, samples: Samples) -> None:
        """48 kHz mono in [-1, 1]; what is beyond is clipped. Any number of samples, before or after its frames."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        with storage(_DOING):
            self._spool.write(pcm.tobytes())

    def finish(self, most_frames: int | None = None) -> ClipFile:
        """The clip, on disk under its name. Sound is padded with silence, or cut, to the frames' length.

        `most_frames`, at least 1, cuts a longer clip there, by copy. Raises StorageFull or WarmtalkError; call
        `abort` then.
        """
        cut = most_frames is not None and most_frames < self.frames
        self.frames = min(self.frames, most_frames or self.frames)
        last = self._first + self.frames
        samples = self._clock.samples_at(last, CLIP_RATE_HZ) - self._clock.samples_at(self._first, CLIP_RATE_HZ)
        with storage(_DOING):
            self._spool.flush()
            self._spool.truncate(samples * _SAMPLE_BYTES)
            if cut:
                _fade_out(self._sound)
            self._spool.close()
        self._child.close_stdin()
        self._check("encoding pictures", self._video)
        if cut:
            self._run(_cut_args(self._video, self._cut, self.frames), "cutting pictures", self._cut)
        self._run(_mux_args(self._cut if cut else self._video, self._sound, self._muxed), _MUXING, self._muxed)
        publish(self._muxed, self._target, _DOING)
        remove(self._video, self._sound, self._cut)
        return ClipFile(self._target, self.frames, samples)

    def abort(self) -> None:
        """Ends the child and leaves nothing on disk. Idempotent; does nothing to a finished clip."""
        self._aborted = True
        self._child.kill()
        if not self._spool.closed:
            os.ftruncate(self._spool.fileno(), 0)
            self._spool.close()
        remove(self._video, self._sound, self._cut, self._muxed)

    def _run(self, args: list[str], doing: str, made: Path) -> None:
        self._child = Child(args, background=self._background)
        if self._aborted:
            raise self._gone()
        self._check(doing, made)

    def _check(self, doing: str, made: Path) -> None:
        self._child.check(doing)
        if not boxes.is_whole(made):
            raise WarmtalkError(f"ffmpeg left half a file while {doing}: {self._child.complaint}")

    def _gone(self) -> WarmtalkError:
        if self._aborted:
            return WarmtalkError("the clip was given up")
        return self._child.failure("encoding pictures", self._child.wait())


def _fade_out(spool: Path) -> None:
    """Brings the end of 16-bit sound to silence, so that a cut does not click."""
    with open(spool, "r+b") as file:
        file.seek(max(0, spool.stat().st_size - _FADE * _SAMPLE_BYTES))
        place = file.tell()
        tail = np.frombuffer(file.read(), "<i2")
        file.seek(place)
        file.write((tail * np.linspace(1, 0, len(tail))).astype("<i2").tobytes())


def _video_args(target: Path, shape: tuple[int, int], clock: FrameClock, x264: X264, threads: int) -> list[str]:
    """`threads`: 0 takes as many as there are cores."""
    height, width = shape
    fps = clock.fps
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{width}x{height}", "-framerate", str(fps)]
    key_frames = ["-g", str(max(1, round(fps))), "-keyint_min", "1", "-sc_threshold", "0", "-bf", "0"]
    codec = ["-c:v", "libx264", "-preset", x264.preset, "-crf", str(x264.crf), *key_frames, "-flags", "+cgop"]
    codec += ["-threads", str(threads)]
    tags = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    colour = ["-vf", f"setparams={tags}", "-color_range", "tv"]
    colour += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    scale = ["-video_track_timescale", str(timescale(clock))]
    return [*source, "-i", "pipe:0", *colour, *codec, *scale, "-f", "mp4", "-y", f"file:{target.absolute()}"]


def _cut_args(video: Path, target: Path, frames: int) -> list[str]:
    """There are no B-frames, so a prefix of the packets is a prefix of the pictures."""
    copy = ["-map", "0:v", "-c", "copy", "-frames:v", str(frames)]
    return ["-f", "mov", "-i", f"file:{video.absolute()}", *copy, "-f", "mp4", "-y", f"file:{target.absolute()}"]


def _mux_args(video: Path, sound: Path, target: Path) -> list[str]:
    pictures = ["-f", "mov", "-i", f"file:{video.absolute()}"]
    pcm = ["-f", "s16le", "-ar", str(CLIP_RATE_HZ), "-ac", "1", "-i", f"file:{sound.absolute()}"]
    codecs = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", "-sample_fmt", "s16", "-strict", "-2"]
    bits = ["-fflags", "+bitexact", "-movflags", "+faststart"]
    return [*pictures, *pcm, *codecs, *bits, "-f", "mp4", "-y", f"file:{target.absolute()}"]


def timescale(clock: FrameClock) -> int:
    """Ticks per second of the video track, a whole number of them to each frame, and at least 10,000."""
    per_second = clock.fps.numerator
    return per_second * -(-10_000 // per_second)
