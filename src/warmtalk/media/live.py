"""One live stream: pictures and sound to fragments of MP4 (H.264 and AAC) as soon as they are coded.

Both tracks count in samples of the 48 kHz sound: a picture lasts exactly as long as the sound that comes with it, at
any rate and when the rate changes, so they cannot drift. PyAV codes in this process; it writes the head of the file,
the fragments are ours, so that one can be cut after any picture without waiting for the next.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from warmtalk.core.types import CLIP_RATE_HZ, Samples
from warmtalk.media.fragments import Packet, Run, fragment, length_prefixed
from warmtalk.media.i420 import I420

_TICK = Fraction(1, CLIP_RATE_HZ)
_VIDEO, _SOUND = 1, 2
"""Track ids."""
_KEY_TICKS = CLIP_RATE_HZ
"""Most between key pictures."""
_SOUND_BITS = 96_000
_ROUNDING = 2
"""Ticks that a picture may miss of a fragment's length."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How a live stream is coded."""

    preset: str = "ultrafast"
    """x264's: ultrafast to medium."""
    crf: int = 21
    """x264's quality, 0 to 51."""
    fragment_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the stream that can be sent."""

    data: bytes
    number: int
    """From 0, which is the head."""
    first_frame: int
    frames: int
    start: int
    """Samples at 48 kHz from the start of the stream."""
    samples: int
    """Length of its pictures; the sound that belongs to them may end 43 ms earlier and goes on in the next."""
    key: bool


class LiveEncoder:
    """One stream. One thread at a time; `write` takes 2 to 10 ms at 720p. Holds no more than one fragment."""

    def __init__(self, width: int, height: int, settings: LiveSettings) -> None:
        """`width` and `height` of the I420 pictures, even."""
        self._settings = settings
        self._closed = False
        self._shape = (height * 3 // 2, width)
        self._file = io.BytesIO()
        self._container = av.open(
            self._file, "w", format="mp4", options={"movflags": "empty_moov+default_base_moof+frag_keyframe"}
        )
        self._video = self._add_video(width, height)
        self._sound = self._add_sound()
        self._container.start_encoding()
        self._pictures: list[Packet] = []
        self._blocks: list[Packet] = []
        self._frames = 0
        self._ticks = 0
        self._sent_frames = 0
        self._sent_ticks = 0
        self._sent_sound_ticks = 0
        self._key_at = 0
        self._number = 0
        self.head = Fragment(self._file.getvalue(), 0, 0, 0, 0, 0, False)
        """ftyp and moov."""
        profile = (self._video.codec_context.extradata or b"")[5:8].hex()
        self.mime_type = f'video/mp4; codecs="avc1.{profile}, mp4a.40.2"'
        """What MediaSource.isTypeSupported asks for."""

    @property
    def samples(self) -> int:
        """Length of what was written."""
        return self._ticks

    def write(self, picture: I420, sound: Samples, *, flush: bool = False) -> Fragment | None:
        """A picture that is shown as long as its `sound` (48 kHz mono in [-1, 1]) lasts; the fragment that is full
        now. `flush` ends the fragment with this picture.
        """
        if picture.shape != self._shape:
            raise ValueError(f"an I420 picture of this stream is {self._shape}, not {picture.shape}")
        self._write_picture(picture, len(sound))
        self._write_sound(sound)
        self._ticks += len(sound)
        self._frames += 1
        full = self._ticks - self._sent_ticks + len(sound) // 2 >= self._settings.fragment_s * CLIP_RATE_HZ - _ROUNDING
        return self._cut() if full or flush else None

    def close(self) -> None:
        """Frees the codecs at once, whoever still holds this. Idempotent; nothing is written after it."""
        if not self._closed:
            self._closed = True
            self._container.close()
            del self._container, self._video, self._sound
            self._pictures, self._blocks = [], []

    def _add_video(self, width: int, height: int) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICK
        stream.codec_context.max_b_frames = 0
        # One thread: streams share the cores, slices cost size.
        more = "keyint=infinite:scenecut=0:threads=1:ipratio=1.1:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        stream.options = {
            "preset": self._settings.preset,
            "tune": "zerolatency",
            "crf": str(self._settings.crf),
            "x264-params": more,
        }
        return stream

    def _add_sound(self) -> AudioStream:
        stream = self._container.add_stream("aac", rate=CLIP_RATE_HZ, layout="mono")
        stream.bit_rate = _SOUND_BITS
        return stream

    def _write_picture(self, picture: I420, ticks: int) -> None:
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = self._ticks, _TICK
        # a player can begin at a fragment alone: the key picture is its first, at the last one within the second
        due = self._ticks - self._key_at > _KEY_TICKS - self._settings.fragment_s * CLIP_RATE_HZ
        if not self._pictures and (due or not self._frames):
            frame.pict_type = PictureType.I
            self._key_at = self._ticks
        for packet in self._video.encode(frame):
            self._pictures.append(Packet(length_prefixed(bytes(packet)), ticks, packet.is_keyframe))

    def _write_sound(self, sound: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(sound, -1, 1), np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = CLIP_RATE_HZ, self._ticks, _TICK
        for packet in self._sound.encode(frame):
            if packet.pts is not None and packet.pts >= 0:  # the first only primes the decoder
                self._blocks.append(Packet(bytes(packet), 1024, key=True))

    def _cut(self) -> Fragment:
        self._number += 1
        runs = [Run(_VIDEO, self._sent_ticks, self._pictures), Run(_SOUND, self._sent_sound_ticks, self._blocks)]
        made = Fragment(
            data=fragment(self._number, runs),
            number=self._number,
            first_frame=self._sent_frames,
            frames=self._frames - self._sent_frames,
            start=self._sent_ticks,
            samples=self._ticks - self._sent_ticks,
            key=self._pictures[0].key,
        )
        self._sent_sound_ticks += sum(packet.ticks for packet in self._blocks)
        self._sent_frames, self._sent_ticks = self._frames, self._ticks
        self._pictures, self._blocks = [], []
        return made
