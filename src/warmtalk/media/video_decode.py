"""An untrusted video as BGR frames, through an ffmpeg child that can open nothing but that one file."""

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

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Image
from warmtalk.media.file_types import VIDEO_DEMUXERS, find_ffmpeg, restricted_input, sniff_file, unsupported_media
from warmtalk.media.probe import VideoCorrections, probe_corrections, probe_start_s
from warmtalk.media.sandbox import VIDEO_LIMITS, sandbox_command, sandbox_environment

log = logging.getLogger(__name__)

STALL_S = 60.0
"""A decoder that was waited for so long, in all, is stopped. Every frame that it gives adds FRAME_S."""
FRAME_S = 1.0
_DURATION = re.compile(rb"Duration: (\d+):(\d+):([\d.]+)")
_NOT_LISTED = re.compile(r"Codec \((\S+)\) not on whitelist")
_DAMAGE = re.compile(rb"concealing|error while decoding|Error submitting packet|corrupt|Invalid NAL|Invalid data found")
_PPM_HEADER_BYTES = 64
_KEPT_LINES = 100
_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What a source may be at most."""

    max_seconds: float = 600.0
    max_pixels: int = 4096 * 2304
    """Of one frame."""


class VideoReader:
    """Frames of a video in order, upright, at a constant rate, with even sides and square pixels.

    Iterate once, from one thread; each frame is [H, W, 3] uint8 BGR, all of one size, and belongs to the caller.
    One frame is held at a time. `close` (or leaving the `with`) stops the child at once.
    Raises BadMedia, which names the file, when it is missing, broken, cut off, too long or too large, and NotReady
    when there is no ffmpeg; both at the earliest on opening, at the latest at the end of the frames.
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
        """`name` stands for the file in messages; default its own. With `align_to_audio` the first frame is repeated
        from the time at which the audio starts, if the audio starts earlier, so that frames and audio start together.
        """
        self.name = name or path.name
        self._rate = rate
        self._limits = limits
        self._patience_s = STALL_S
        kind = video_kind(path, self.name)
        self._needs = probe_corrections(path, kind, limits.max_pixels)
        self._child = _start(
            path, kind, self._needs, rate, limits, probe_start_s(path, kind) if align_to_audio else None
        )
        assert self._child.stdout is not None and self._child.stderr is not None
        self._pipe = self._child.stdout
        self._words = _Words(self._child.stderr)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._child.kill()
        self._child.wait()
        self._words.join()
        self._pipe.close()

    @property
    def expected_frames(self) -> int:
        """Frames that the file promises; 0 while unknown. Known once the first frame was read."""
        return round(self._words.duration_s * self._rate)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as it should be, for people. Complete after the last frame."""
        damaged = ("the file is damaged in places, where the picture stands still or breaks up: export it again",)
        return self._needs.warnings + (damaged if self._words.damaged else ())

    def __iter__(self) -> Iterator[Image]:
        most = int(self._limits.max_seconds * self._rate)
        count, size = 0, (0, 0)
        while (image := self._frame(size)) is not None:
            if count == most or self.expected_frames > most + 1:
                raise BadMedia(
                    f"{self.name} is longer than {self._limits.max_seconds:g} s", "Cut it; 10 to 60 s are plenty"
                )
            size = (image.shape[1], image.shape[0])
            count += 1
            self._patience_s = min(self._patience_s + FRAME_S, STALL_S)
            yield image
        self._check_end(count)

    def _frame(self, size: tuple[int, int]) -> Image | None:
        """The next frame, or None at the end. All but the first must have this size."""
        header = self._header()
        if header is None:
            return None
        if size not in ((0, 0), header):
            raise BadMedia(f"{self.name} changes its picture size on the way", "Convert it to one size")
        width, height = header
        if width * height > self._limits.max_pixels:
            raise self._too_large(f"{width} x {height}")
        image: Image = np.empty((height, width, 3), np.uint8)
        if not self._fill(image.data.cast("B")):
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image), np.uint8)

    def _header(self) -> tuple[int, int] | None:
        """Width and height of a PPM picture, "P6\\nW H\\n255\\n"; None at the end."""
        text = bytearray()
        byte = bytearray(1)
        while text.count(b"\n") < 3 and len(text) < _PPM_HEADER_BYTES:
            if not self._fill(memoryview(byte)):
                return None
            text += byte
        magic, width, height, _ = text.split()
        assert magic == b"P6"
        return int(width), int(height)

    def _fill(self, view: memoryview) -> bool:
        """Reads until `view` is full. False when the child ended before."""
        while view:
            began = time.monotonic()
            if not select.select([self._pipe], [], [], max(self._patience_s, 0))[0]:
                raise self._too_slow()
            self._patience_s -= time.monotonic() - began
            got = self._pipe.readinto(view)  # type: ignore[attr-defined]  # unbuffered, so a raw file
            if not got:
                return False
            view = view[got:]
        return True

    def _check_end(self, count: int) -> None:
        code = self._child.wait()
        self._words.join()
        said = self._words.text()
        if "exceeds specified max pixel count" in said or "Picture size" in said:
            raise self._too_large(f"of more than {self._limits.max_pixels} pixels a frame")
        if "Cannot allocate memory" in said or "Resource temporarily unavailable" in said:  # the latter of threads
            raise BadMedia(
                f"{self.name} takes too much memory to decode", "Scale it down, or convert it to H.264 in mp4"
            )
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            raise self._too_slow()
        if any(sign in said for sign in ("moov atom not found", "partial file", "File ended prematurely")):
            raise BadMedia(f"{self.name} is cut off: its end is missing", "Upload it again, or export it once more")
        if "matches no streams" in said or "does not contain any stream" in said:
            raise BadMedia(f"{self.name} holds no picture", "Use a video, or a photo as jpg or png")
        if code and (refused := _NOT_LISTED.findall(said)) and "while opening decoder" in said:
            raise BadMedia(f"{self.name} is coded as {refused[-1]}, which is not read", "Convert it to H.264 in mp4")
        if code or not count:
            log.info("ffmpeg on %s ended with %d: %s", self.name, code, said)
            raise BadMedia(f"{self.name} cannot be decoded{_last_word(said)}", "Convert it to H.264 in mp4")

    def _too_slow(self) -> BadMedia:
        return BadMedia(f"{self.name} takes too long to decode: it was given up", "Convert it to H.264 in mp4")

    def _too_large(self, what: str) -> BadMedia:
        return BadMedia(
            f"{self.name} is too large: {what}", f"Scale it down to at most {self._limits.max_pixels} pixels"
        )


def video_kind(path: Path, name: str) -> str:
    """Kind of this video by its first bytes. Raises BadMedia for anything but a video that we take."""
    kind = sniff_file(path)
    if kind not in VIDEO_DEMUXERS:
        raise unsupported_media(name, kind)
    return kind


def _start(
    path: Path, kind: str, needs: VideoCorrections, rate: Fraction, limits: SourceLimits, begin_s: float | None
) -> subprocess.Popen[bytes]:
    # Pixels not square are made square and odd sides even; the colour matrix of the file is honoured here, so that
    # all that follows may assume plain BT.601.
    clock, rebased = ("", "") if begin_s is None else (":start_time=0", f"setpts=PTS-{begin_s}/TB,")
    filters = (
        f"{needs.filters_before_fps}{rebased}fps={rate}{clock},{needs.filters_after_fps}"
        "scale='max(2,trunc(iw*if(between(sar,.98,1.02),1,sar)/2)*2)':'max(2,trunc(ih/2)*2)'"
        ":flags=bicubic+accurate_rnd+full_chroma_int,setsar=1,format=rgb24"
    )
    command = [
        *(find_ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
        *("-max_pixels", str(limits.max_pixels), *(() if begin_s is None else ("-copyts",))),
        *restricted_input(str(path.resolve()), kind),
        *("-map", "0:V:0", "-an", "-sn", "-dn", "-vf", filters, "-t", f"{limits.max_seconds + 1:.3f}"),
        *("-c:v", "ppm", "-f", "image2pipe", "pipe:1"),
    ]
    return subprocess.Popen(
        sandbox_command(command, VIDEO_LIMITS),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=sandbox_environment(),
        bufsize=0,
        process_group=0,  # Ctrl-C is for the program, which ends its children itself
    )


class _Words:
    """What the child says, read in a thread of its own so that it never blocks. Keeps the last lines only."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.duration_s = 0.0
        self.damaged = False
        self._lines: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._thread = threading.Thread(target=self._read, args=(pipe,), name="ffmpeg-words", daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with io.BufferedReader(pipe) as lines:  # type: ignore[type-var]  # unbuffered, so a raw file
            while line := lines.readline(_LINE_BYTES):
                self._lines.append(line.strip())
                self.damaged |= bool(_DAMAGE.search(line))
                if found := _DURATION.search(line):
                    hours, minutes, seconds = found.groups()
                    self.duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    def join(self) -> None:
        self._thread.join()

    def text(self) -> str:
        return b"\n".join(self._lines).decode("utf-8", "replace")


def _last_word(said: str) -> str:
    """The most telling line of ffmpeg, without its address tags and paths; "" when there is none."""
    for line in reversed(said.splitlines()):
        if _NOT_LISTED.search(line):  # a sound or a cover that nobody asked for
            continue
        plain = re.sub(r"^\[[^]]*\]\s*|^\S*/\S+:\s*", "", line).strip()
        if re.search(r"error|invalid|not |fail|unsupported|unknown", plain, re.IGNORECASE):
            return f" ({plain[:120]})"
    return ""
