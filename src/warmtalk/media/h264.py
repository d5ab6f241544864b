"""Pictures to H.264, in this process, by the libx264 that PyAV brings.

Streams of one X264Settings, size and frame rate have the same parameter sets, whether they are coded as they come or
ahead, so their pictures can stand in one file under one head. There are no B-frames: packets are pictures, in order.
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
"""movflags of a head that fragments follow."""


@dataclass(frozen=True, slots=True)
class X264Settings:
    """How pictures are coded. All clips of a conversation need the same."""

    preset: str = "veryfast"
    """x264's: ultrafast to medium."""
    crf: int = 18
    """x264's quality, 0 to 51."""


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """One coded picture, as MP4 holds it: slices with their lengths in front."""

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
    """A stream of I420 pictures of this even size. `live`: each comes out at once, on one thread, and key pictures only
    where they are asked for; else on all cores, with a key picture each second, or each second picture.
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
    stream: VideoStream, picture: I420 | None, number: int, *, keyframe: bool = False
) -> list[EncodedPicture]:
    """The packets that are ready with this picture, `number` of the stream; None: all that are still to come."""
    frame = None
    if picture is not None:
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number, stream.codec_context.time_base
        if keyframe:
            frame.pict_type = PictureType.I
    return [EncodedPicture(annex_b_to_avcc(bytes(packet)), packet.is_keyframe) for packet in stream.encode(frame)]


class H264Encoder:
    """One stream of pictures by itself. One thread at a time."""

    def __init__(
        self, width: int, height: int, x264: X264Settings, clock: FrameClock, ticks_hz: int, *, live: bool
    ) -> None:
        """`ticks_hz` is the time scale of its track."""
        file = io.BytesIO()
        options = {"movflags": FRAGMENTED_MOVFLAGS, "video_track_timescale": str(ticks_hz)}
        self._container = av.open(file, "w", format="mp4", options=options)
        self._stream = add_video_stream(self._container, width, height, x264, clock, live=live)
        self._container.start_encoding()
        self._closed = False
        self._number = 0
        self.head = file.getvalue()
        """ftyp and moov; the track is number 1."""
        self.parameter_sets = bytes(self._stream.codec_context.extradata or b"")
        """Sequence and picture parameter sets, and what else stands in front of the first picture."""

    def encode(self, picture: I420, *, keyframe: bool = False) -> list[EncodedPicture]:
        self._number += 1
        return encode_frame(self._stream, picture, self._number - 1, keyframe=keyframe)

    def flush(self) -> list[EncodedPicture]:
        """The last ones; nothing is coded after it."""
        return encode_frame(self._stream, None, self._number)

    def close(self) -> None:
        """Frees the codec at once. Idempotent; nothing is coded after it."""
        if not self._closed:
            self._closed = True
            self._container.close()
            del self._container, self._stream
