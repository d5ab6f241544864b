"""One live stream: pictures and sound to fragments of MP4 (H.264 and AAC) as soon as they are coded.

Both tracks count in samples of the 48 kHz sound: a picture lasts exactly as long as the sound that comes with it, at
any rate and when the rate changes, so they cannot drift. PyAV codes in this process; it writes the head of the file,
the fragments are ours, so that one can be cut after any picture without waiting for the next.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream

from warmtalk.core.types import CLIP_RATE_HZ, FrameClock, Samples
from warmtalk.media.fmp4_writer import Packet, TrackRun, build_fragment
from warmtalk.media.h264 import FRAGMENTED_MOVFLAGS, EncodedPicture, X264Settings, add_video_stream, encode_frame
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

    x264: X264Settings = field(default_factory=lambda: X264Settings("ultrafast", 21))
    fragment_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the stream that can be sent."""

    data: bytes
    number: int
    """From 0, which is the head."""
    first_frame: int
    frames: int
    first_sample: int
    """Samples at 48 kHz from the start of the stream."""
    samples: int
    """Length of its pictures; the sound that belongs to them may end 43 ms earlier and goes on in the next."""
    keyframe: bool


class LiveEncoder:
    """One stream. One thread at a time; `write_frame` takes 2 to 10 ms at 720p. Holds no more than one fragment."""

    def __init__(self, width: int, height: int, settings: LiveSettings, clock: FrameClock | None = None) -> None:
        """`width` and `height` of the I420 pictures, even; `clock` is that of the clips which take the same packets."""
        self.settings = settings
        self._closed = False
        self._shape = (height * 3 // 2, width)
        self._file = io.BytesIO()
        ticks = {"movflags": FRAGMENTED_MOVFLAGS, "video_track_timescale": str(CLIP_RATE_HZ)}
        self._container = av.open(self._file, "w", format="mp4", options=ticks)
        self._video = add_video_stream(self._container, width, height, settings.x264, clock or FrameClock(), live=True)
        self._sound = self._add_sound()
        self._container.start_encoding()
        self.last_picture = EncodedPicture(b"", keyframe=False)
        """The last picture."""
        self.parameter_sets = bytes(self._video.codec_context.extradata or b"")
        """As in H264Encoder."""
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
        profile = self.parameter_sets[5:8].hex()
        self.mime_type = f'video/mp4; codecs="avc1.{profile}, mp4a.40.2"'
        """What MediaSource.isTypeSupported asks for."""

    @property
    def duration_samples(self) -> int:
        """Length of what was written."""
        return self._ticks

    def write_frame(
        self, picture: I420, sound: Samples, *, flush: bool = False, keyframe: bool = False
    ) -> Fragment | None:
        """Encodes `picture` and `sound` (48 kHz mono in [-1, 1]) of the same duration. Returns the fragment
        that is full now. `flush` ends the fragment with this picture. `keyframe` makes this picture a key picture; call
        `flush_fragment` first, so that a player can start there.
        """
        if picture.shape != self._shape:
            raise ValueError(f"an I420 picture of this stream is {self._shape}, not {picture.shape}")
        self._write_picture(picture, len(sound), keyframe)
        self._write_sound(sound)
        self._ticks += len(sound)
        self._frames += 1
        full = self._ticks - self._sent_ticks + len(sound) // 2 >= self.settings.fragment_s * CLIP_RATE_HZ - _ROUNDING
        return self._cut() if full or flush else None

    def flush_fragment(self) -> Fragment | None:
        """Ends the fragment before it is full."""
        return self._cut() if self._pictures else None

    def close(self) -> None:
        """Frees the codecs at once, whoever still holds this. Idempotent; nothing is written after it."""
        if not self._closed:
            self._closed = True
            self._container.close()
            del self._container, self._video, self._sound
            self._pictures, self._blocks = [], []

    def _add_sound(self) -> AudioStream:
        stream = self._container.add_stream("aac", rate=CLIP_RATE_HZ, layout="mono")
        stream.bit_rate = _SOUND_BITS
        return stream

    def _write_picture(self, picture: I420, ticks: int, key: bool) -> None:
        # a player can begin at a fragment alone: the key picture is its first, at the last one within the second
        due = self._ticks - self._key_at > _KEY_TICKS - self.settings.fragment_s * CLIP_RATE_HZ
        if not self._pictures and (due or key or not self._frames):
            self._key_at, key = self._ticks, True
        (self.last_picture,) = encode_frame(self._video, picture, self._frames, keyframe=key)
        self._pictures.append(Packet(self.last_picture.data, ticks, self.last_picture.keyframe))

    def _write_sound(self, sound: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(sound, -1, 1), np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = CLIP_RATE_HZ, self._ticks, _TICK
        for packet in self._sound.encode(frame):
            if packet.pts is not None and packet.pts >= 0:  # the first only primes the decoder
                self._blocks.append(Packet(bytes(packet), 1024, keyframe=True))

    def _cut(self) -> Fragment:
        self._number += 1
        runs = [
            TrackRun(_VIDEO, self._sent_ticks, self._pictures),
            TrackRun(_SOUND, self._sent_sound_ticks, self._blocks),
        ]
        made = Fragment(
            data=build_fragment(self._number, runs),
            number=self._number,
            first_frame=self._sent_frames,
            frames=self._frames - self._sent_frames,
            first_sample=self._sent_ticks,
            samples=self._ticks - self._sent_ticks,
            keyframe=self._pictures[0].keyframe,
        )
        self._sent_sound_ticks += sum(packet.duration_ticks for packet in self._blocks)
        self._sent_frames, self._sent_ticks = self._frames, self._ticks
        self._pictures, self._blocks = [], []
        return made
