"""Encodes frames to H.264 in this process, with the libx264 of PyAV.

Streams of one X264Settings, size and frame rate have the same parameter sets, live or not, so their pictures fit into
one file under one head. There are no B-frames: packets are pictures, in display order.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
from av.video.frame import PictureType
from av.video.stream import VideoStream

from warmtalk.core.types import FrameClock
from warmtalk.media.fmp4_writer import annex_b_to_avcc
from warmtalk.media.i420 import I420

FRAGMENTED_MOVFLAGS = "empty_moov+default_base_moof+frag_keyframe"
"""movflags that write a head for fragments to follow."""


@dataclass(frozen=True, slots=True)
class X264Settings:
    """Encoder settings. All clips of a conversation need the same."""

    preset: str = "veryfast"
    """x264's preset: ultrafast to medium."""
    crf: int = 18
    """x264's quality, 0 to 51; lower is better."""


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """One encoded frame as MP4 stores the frame: slices with their lengths in front."""

    data: bytes
    keyframe: bool


def add_video_stream(
    container: av.container.OutputContainer,
    width: int,
    height: int,
    x264: X264Settings,
    clock: FrameClock,
    *,
    live: bool,
) -> VideoStream:
    """Adds a stream of I420 frames of this even size.

    `live`: every picture comes out at once, from one thread, and key frames only on request. Otherwise: encoded on all
    cores, with a key frame each second, or each second frame at very low rates.
    """
    stream = container.add_stream("libx264", rate=clock.fps)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = 1 / clock.fps
    stream.codec_context.max_b_frames = 0
    stream.codec_context.thread_count = 1 if live else 0
    params = ["scenecut=0", "force-cfr=1", "fullrange=off", "colorprim=bt709", "transfer=bt709", "colormatrix=bt709"]
    params += ["keyint=infinite", "ipratio=1.1"] if live else [f"keyint={max(2, round(clock.fps))}", "min-keyint=1"]
    stream.options = {"preset": x264.preset, "crf": str(x264.crf), "x264-params": ":".join(params)}
    if live:
        stream.options |= {"tune": "zerolatency"}
    return stream


def encode_frame(
    stream: VideoStream, frame: I420 | None, index: int, *, keyframe: bool = False
) -> list[EncodedPicture]:
    """Encodes frame `index` of the stream and returns the pictures that are ready. None flushes the encoder."""
    source = None
    if frame is not None:
        source = av.VideoFrame.from_ndarray(frame, format="yuv420p")
        source.pts, source.time_base = index, stream.codec_context.time_base
        if keyframe:
            source.pict_type = PictureType.I
    return [EncodedPicture(annex_b_to_avcc(bytes(packet)), packet.is_keyframe) for packet in stream.encode(source)]


class H264Encoder:
    """Encodes one stream of frames. One thread at a time."""

    def __init__(
        self, width: int, height: int, x264: X264Settings, clock: FrameClock, ticks_hz: int, *, live: bool
    ) -> None:
        """`ticks_hz` is the time scale of the track; `live` as in add_video_stream."""
        file = io.BytesIO()
        options = {"movflags": FRAGMENTED_MOVFLAGS, "video_track_timescale": str(ticks_hz)}
        self._container = av.open(file, "w", format="mp4", options=options)
        self._stream = add_video_stream(self._container, width, height, x264, clock, live=live)
        self._container.start_encoding()
        self._closed = False
        self._frames = 0
        self.head = file.getvalue()
        """ftyp and moov; the track is number 1."""
        self.parameter_sets = bytes(self._stream.codec_context.extradata or b"")
        """Sequence and picture parameter sets, and all other NAL units in front of the first picture."""

    def encode(self, frame: I420, *, keyframe: bool = False) -> list[EncodedPicture]:
        """Encodes the next frame and returns the pictures that are ready."""
        self._frames += 1
        return encode_frame(self._stream, frame, self._frames - 1, keyframe=keyframe)

    def flush(self) -> list[EncodedPicture]:
        """Returns the last pictures. Nothing can be encoded afterwards."""
        return encode_frame(self._stream, None, self._frames)

    def close(self) -> None:
        """Frees the codec at once. Idempotent. Nothing can be encoded afterwards."""
        if not self._closed:
            self._closed = True
            self._container.close()
            del self._container, self._stream
