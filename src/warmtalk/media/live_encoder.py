"""Encodes one live stream: frames and audio to fragments of MP4 (H.264 and AAC) without delay.

Both tracks count in samples of the 48 kHz audio. A frame lasts exactly as long as the audio that comes with the frame,
at any rate and when the rate changes, so the tracks cannot drift apart. PyAV encodes in this process and writes the
head of the file; this module writes the fragments, so that a fragment can end after any frame without waiting for the
next frame.
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
_VIDEO_TRACK, _AUDIO_TRACK = 1, 2
_KEYFRAME_TICKS = CLIP_RATE_HZ
"""Maximum distance of key frames: one second."""
_AUDIO_BITS_PER_S = 96_000
_AAC_BLOCK_SAMPLES = 1024
_ROUNDING_TICKS = 2
"""Ticks that may be missing from a fragment's length, since a frame lasts a whole number of samples."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Encoder settings of a live stream."""

    x264: X264Settings = field(default_factory=lambda: X264Settings("ultrafast", 21))
    fragment_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of the stream, ready to send."""

    data: bytes
    number: int
    """Position in the stream. Number 0 is the head."""
    first_frame: int
    frames: int
    first_sample: int
    """Start of the fragment, in samples at 48 kHz from the start of the stream."""
    samples: int
    """Duration of the frames. Their audio may end 43 ms earlier and continue in the next fragment."""
    keyframe: bool
    """True when playback can start with this fragment."""


class LiveEncoder:
    """Encodes one stream. One thread at a time; `write_frame` takes 2 to 10 ms at 720p. Holds at most one fragment."""

    def __init__(self, width: int, height: int, settings: LiveSettings, clock: FrameClock | None = None) -> None:
        """`width` and `height` of the I420 frames, even; `clock` as for the clips that copy the encoded frames."""
        self.settings = settings
        self._closed = False
        self._shape = (height * 3 // 2, width)
        self._file = io.BytesIO()
        options = {"movflags": FRAGMENTED_MOVFLAGS, "video_track_timescale": str(CLIP_RATE_HZ)}
        self._container = av.open(self._file, "w", format="mp4", options=options)
        self._video = add_video_stream(self._container, width, height, settings.x264, clock or FrameClock(), live=True)
        self._audio = self._add_audio_stream()
        self._container.start_encoding()
        self.last_picture = EncodedPicture(b"", keyframe=False)
        """The last frame, encoded."""
        self.parameter_sets = bytes(self._video.codec_context.extradata or b"")
        """As in H264Encoder."""
        self._video_packets: list[Packet] = []
        self._audio_packets: list[Packet] = []
        self._frames = 0
        self._ticks = 0
        self._sent_frames = 0
        self._sent_ticks = 0
        self._sent_audio_ticks = 0
        self._keyframe_ticks = 0
        self._number = 0
        self.head = Fragment(self._file.getvalue(), 0, 0, 0, 0, 0, False)
        """ftyp and moov."""
        profile = self.parameter_sets[5:8].hex()
        self.mime_type = f'video/mp4; codecs="avc1.{profile}, mp4a.40.2"'
        """The argument of MediaSource.isTypeSupported."""

    @property
    def duration_samples(self) -> int:
        """Duration of all frames so far, in samples at 48 kHz."""
        return self._ticks

    def write_frame(
        self, frame: I420, audio: Samples, *, flush: bool = False, keyframe: bool = False
    ) -> Fragment | None:
        """Encodes a frame and its audio, 48 kHz mono in [-1, 1]. The frame lasts as long as the audio.

        Returns the fragment that is full now. `flush` ends the fragment with this frame. `keyframe` makes the frame a
        key frame; call `flush_fragment` first, so that playback can start there.
        """
        if frame.shape != self._shape:
            raise ValueError(f"an I420 frame of this stream is {self._shape}, not {frame.shape}")
        self._encode_video(frame, len(audio), keyframe)
        self._encode_audio(audio)
        self._ticks += len(audio)
        self._frames += 1
        # A fragment ends at the frame boundary nearest to its nominal length.
        ticks = self._ticks - self._sent_ticks + len(audio) // 2
        full = ticks >= self.settings.fragment_s * CLIP_RATE_HZ - _ROUNDING_TICKS
        return self._end_fragment() if full or flush else None

    def flush_fragment(self) -> Fragment | None:
        """Ends the fragment before it is full. Returns None when the fragment is empty."""
        return self._end_fragment() if self._video_packets else None

    def close(self) -> None:
        """Frees the codecs at once, even while references to the encoder remain. Idempotent; the stream is over."""
        if not self._closed:
            self._closed = True
            self._container.close()
            del self._container, self._video, self._audio
            self._video_packets, self._audio_packets = [], []

    def _add_audio_stream(self) -> AudioStream:
        stream = self._container.add_stream("aac", rate=CLIP_RATE_HZ, layout="mono")
        stream.bit_rate = _AUDIO_BITS_PER_S
        return stream

    def _encode_video(self, frame: I420, ticks: int, keyframe: bool) -> None:
        # Players start at the start of a fragment alone. So key frames stand first in a fragment: in the last fragment
        # that starts within a second after the key frame before.
        due = self._ticks - self._keyframe_ticks > _KEYFRAME_TICKS - self.settings.fragment_s * CLIP_RATE_HZ
        if not self._video_packets and (due or keyframe or not self._frames):
            self._keyframe_ticks, keyframe = self._ticks, True
        (self.last_picture,) = encode_frame(self._video, frame, self._frames, keyframe=keyframe)
        self._video_packets.append(Packet(self.last_picture.data, ticks, self.last_picture.keyframe))

    def _encode_audio(self, audio: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(audio, -1, 1), np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = CLIP_RATE_HZ, self._ticks, _TICK
        for packet in self._audio.encode(frame):
            if packet.pts is not None and packet.pts >= 0:  # the first packet only primes the decoder
                self._audio_packets.append(Packet(bytes(packet), _AAC_BLOCK_SAMPLES, keyframe=True))

    def _end_fragment(self) -> Fragment:
        self._number += 1
        runs = [
            TrackRun(_VIDEO_TRACK, self._sent_ticks, self._video_packets),
            TrackRun(_AUDIO_TRACK, self._sent_audio_ticks, self._audio_packets),
        ]
        fragment = Fragment(
            data=build_fragment(self._number, runs),
            number=self._number,
            first_frame=self._sent_frames,
            frames=self._frames - self._sent_frames,
            first_sample=self._sent_ticks,
            samples=self._ticks - self._sent_ticks,
            keyframe=self._video_packets[0].keyframe,
        )
        self._sent_audio_ticks += sum(packet.duration_ticks for packet in self._audio_packets)
        self._sent_frames, self._sent_ticks = self._frames, self._ticks
        self._video_packets, self._audio_packets = [], []
        return fragment
