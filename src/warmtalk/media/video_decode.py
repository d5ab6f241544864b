"""Decodes an untrusted video to BGR frames in an ffmpeg child without access to any other file."""

from __future__ import annotations

import io
import logging
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from ffmpeg.nodes import OutputStream

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media.ffmpeg_command import STDOUT, compile_command, restricted_input
from warmtalk.media.file_types import VIDEO_DEMUXERS, sniff_file, unsupported_media
from warmtalk.media.probe import VideoCorrections, probe_corrections, probe_start_s
from warmtalk.media.sandbox import VIDEO_LIMITS, sandbox_command, sandbox_environment

log = logging.getLogger(__name__)

STALL_S = 60.0
"""Budget of time to wait for the decoder, in all. A decoder that exceeds the budget is stopped."""
FRAME_S = 1.0
"""Time that every decoded frame adds to the budget, up to STALL_S."""
_DURATION = re.compile(rb"Duration: (\d+):(\d+):([\d.]+)")
_NOT_LISTED = re.compile(r"Codec \((\S+)\) not on whitelist")
_DAMAGE = re.compile(rb"concealing|error while decoding|Error submitting packet|corrupt|Invalid NAL|Invalid data found")
_PPM_HEADER_BYTES = 64
_TAIL_LINES = 100
_LINE_BYTES = 4096
_DAMAGED = "the file is damaged in places, where the video freezes or breaks up: export it again"


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Maximum length and frame size of a source."""

    max_seconds: float = 600.0
    max_pixels: int = 4096 * 2304
    """Pixels of one frame."""


class VideoReader:
    """Frames of a video in order, upright, at a constant rate, with even sides and square pixels.

    Iterate once, from one thread. Each frame is [H, W, 3] uint8 BGR, all of one size, and belongs to the caller. One
    frame is held at a time. `close` (or leaving the `with`) stops the child at once.
    Raises BadMedia, with the file's name, when the file is missing, broken, cut off, too long or too large, and
    NotReady without ffmpeg: some errors on opening, the others at the end of the frames at the latest.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        limits: SourceLimits = SourceLimits(),
        *,
        name: str = "",
        align_to_audio: bool = False,
    ) -> None:
        """Starts the decoder. `name` stands for the file in messages; default is the path's name.

        With `align_to_audio` frames and audio start together: where the audio starts earlier, the first frame is
        repeated from that time on.
        """
        self.name = name or path.name
        self._rate = rate
        self._limits = limits
        self._patience_s = STALL_S
        kind = video_kind(path, self.name)
        self._corrections = probe_corrections(path, kind, limits.max_pixels)
        start_s = probe_start_s(path, kind) if align_to_audio else None
        self._child = _start_decoder(path, kind, self._corrections, rate, limits, start_s)
        assert self._child.stdout is not None and self._child.stderr is not None
        self._pipe = self._child.stdout
        self._stderr = _StderrReader(self._child.stderr)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the decoder. Idempotent."""
        self._child.kill()
        self._child.wait()
        self._stderr.join()
        self._pipe.close()

    @property
    def expected_frames(self) -> int:
        """Number of frames by the duration in the file's header; 0 while unknown. Known after the first frame."""
        return round(self._stderr.duration_s * self._rate)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Faults of the video, as text for users. Complete after the last frame."""
        return self._corrections.warnings + ((_DAMAGED,) if self._stderr.damaged else ())

    def __iter__(self) -> Iterator[Image]:
        max_frames = int(self._limits.max_seconds * self._rate)
        count, size = 0, (0, 0)
        while (image := self._read_frame(size)) is not None:
            if count == max_frames or self.expected_frames > max_frames + 1:
                raise BadMedia(
                    f"{self.name} is longer than {self._limits.max_seconds:g} s", "Cut it; 10 to 60 s are plenty"
                )
            size = (image.shape[1], image.shape[0])
            count += 1
            self._patience_s = min(self._patience_s + FRAME_S, STALL_S)
            yield image
        self._check_end(count)

    def _read_frame(self, size: tuple[int, int]) -> Image | None:
        """Returns the next frame, or None at the end. Every frame but the first must have this (width, height)."""
        header = self._read_header()
        if header is None:
            return None
        if size not in ((0, 0), header):
            raise BadMedia(f"{self.name} changes its frame size on the way", "Convert it to one size")
        width, height = header
        if width * height > self._limits.max_pixels:
            raise self._too_large(f"{width} x {height}")
        image: Image = np.empty((height, width, 3), np.uint8)
        if not self._read_into(image.data.cast("B")):
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image), np.uint8)

    def _read_header(self) -> tuple[int, int] | None:
        """Returns width and height of a PPM image, "P6\\nW H\\n255\\n"; None at the end."""
        text = bytearray()
        byte = bytearray(1)
        while text.count(b"\n") < 3 and len(text) < _PPM_HEADER_BYTES:
            if not self._read_into(memoryview(byte)):
                return None
            text += byte
        magic, width, height, _ = text.split()
        assert magic == b"P6"
        return int(width), int(height)

    def _read_into(self, view: memoryview) -> bool:
        """Reads until `view` is full. Returns False when the child ended before."""
        while view:
            started = time.monotonic()
            if not select.select([self._pipe], [], [], max(self._patience_s, 0))[0]:
                raise self._too_slow()
            self._patience_s -= time.monotonic() - started
            count = self._pipe.readinto(view)  # type: ignore[attr-defined]  # unbuffered, so a raw file
            if not count:
                return False
            view = view[count:]
        return True

    def _check_end(self, count: int) -> None:
        """Raises BadMedia with a cause that users understand when the decoder failed or gave no frame."""
        status = self._child.wait()
        self._stderr.join()
        text = self._stderr.text()
        if "exceeds specified max pixel count" in text or "Picture size" in text:
            raise self._too_large(f"of more than {self._limits.max_pixels} pixels a frame")
        if "Cannot allocate memory" in text or "Resource temporarily unavailable" in text:  # the latter: no new thread
            raise BadMedia(
                f"{self.name} takes too much memory to decode", "Scale it down, or convert it to H.264 in mp4"
            )
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise self._too_slow()
        if any(sign in text for sign in ("moov atom not found", "partial file", "File ended prematurely")):
            raise BadMedia(f"{self.name} is cut off: its end is missing", "Upload it again, or export it once more")
        if "matches no streams" in text or "does not contain any stream" in text:
            raise BadMedia(f"{self.name} holds no video", "Use a video, or a photo as jpg or png")
        if status and (codecs := _NOT_LISTED.findall(text)) and "while opening decoder" in text:
            raise BadMedia(f"{self.name} is encoded as {codecs[-1]}, which is not read", "Convert it to H.264 in mp4")
        if status or not count:
            log.info("ffmpeg on %s ended with %d: %s", self.name, status, text)
            raise BadMedia(f"{self.name} cannot be decoded{_error_line(text)}", "Convert it to H.264 in mp4")

    def _too_slow(self) -> BadMedia:
        return BadMedia(f"{self.name} takes too long to decode: the decoder was stopped", "Convert it to H.264 in mp4")

    def _too_large(self, size: str) -> BadMedia:
        return BadMedia(
            f"{self.name} is too large: {size}", f"Scale it down to at most {self._limits.max_pixels} pixels"
        )


def video_kind(path: Path, name: str) -> str:
    """Returns the kind of this video by its first bytes. Raises BadMedia for anything but a supported video."""
    kind = sniff_file(path)
    if kind not in VIDEO_DEMUXERS:
        raise unsupported_media(name, kind)
    return kind


def _start_decoder(
    path: Path, kind: str, corrections: VideoCorrections, rate: Fraction, limits: SourceLimits, start_s: float | None
) -> subprocess.Popen[bytes]:
    options = ("-loglevel", "info", *(() if start_s is None else ("-copyts",)))
    command = compile_command(_decoder_output(path, kind, corrections, rate, limits, start_s), *options)
    return subprocess.Popen(
        sandbox_command(command, VIDEO_LIMITS),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=sandbox_environment(),
        bufsize=0,
        process_group=0,  # Ctrl-C reaches the service alone, which ends its children itself
    )


def _decoder_output(
    path: Path, kind: str, corrections: VideoCorrections, rate: Fraction, limits: SourceLimits, start_s: float | None
) -> OutputStream:
    """Returns PPM images on stdout. `start_s`: time of the first frame or audio packet, where frames start too."""
    aligned = start_s is not None
    filters = (
        *corrections.filters_before_fps,
        *((f"setpts=PTS-{start_s}/TB",) if aligned else ()),
        f"fps={rate}" + ":start_time=0" * aligned,
        *corrections.filters_after_fps,
        # Non-square pixels become square and odd sides even. The colour matrix of the file is applied here, so that
        # everything behind may assume plain BT.601.
        "scale='max(2,trunc(iw*if(between(sar,.98,1.02),1,sar)/2)*2)':'max(2,trunc(ih/2)*2)'"
        ":flags=bicubic+accurate_rnd+full_chroma_int",
        "setsar=1",
        "format=rgb24",
    )
    video = restricted_input(str(path.resolve()), kind, max_pixels=limits.max_pixels)["V:0"]
    # A simple filter chain, as text: ffmpeg-python knows complex graphs alone, whose output has no input stream, and
    # ffmpeg then repeats the first frame where a file starts with frames that cannot be decoded.
    return video.output(
        STDOUT,
        f="image2pipe",
        vcodec="ppm",
        vf=",".join(filters),
        t=f"{limits.max_seconds + 1:.3f}",
        **dict.fromkeys(("an", "sn", "dn")),
    )


class _StderrReader:
    """Reads the child's stderr in a thread of its own, so that the child never blocks. Keeps the last lines."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.duration_s = 0.0
        self.damaged = False
        self._lines: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._thread = threading.Thread(target=self._read, args=(pipe,), name="ffmpeg-stderr", daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with io.BufferedReader(pipe) as lines:  # type: ignore[type-var]  # unbuffered, so a raw file
            while line := lines.readline(_LINE_BYTES):
                self._lines.append(line.strip())
                self.damaged |= bool(_DAMAGE.search(line))
                if match := _DURATION.search(line):
                    hours, minutes, seconds = match.groups()
                    self.duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    def join(self) -> None:
        self._thread.join()

    def text(self) -> str:
        """Returns the last lines."""
        return b"\n".join(self._lines).decode("utf-8", "replace")


def _error_line(text: str) -> str:
    """Returns the last error line, in brackets, without address tags and paths; "" when there is none."""
    for line in reversed(text.splitlines()):
        if _NOT_LISTED.search(line):  # an audio stream or a cover image, which nobody asked for
            continue
        plain = re.sub(r"^\[[^]]*\]\s*|^\S*/\S+:\s*", "", line).strip()
        if re.search(r"error|invalid|not |fail|unsupported|unknown", plain, re.IGNORECASE):
            return f" ({plain[:120]})"
    return ""
