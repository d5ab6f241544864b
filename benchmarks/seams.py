"""Measures on a received live video: changes where speech begins and ends, and the mouth in silence."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from warmtalk.core.types import Box, Image
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.landmark_measures import lip_gap

_EDGE_FRAMES = 4
"""Frames before and after a transition that count as part of the transition."""


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A decoded stream."""

    images: list[Image]
    """BGR."""
    times: list[float]
    """Time of each image in seconds."""
    audio: npt.NDArray[np.float32]
    """48 kHz."""


def decode_stream(data: bytes) -> DecodedStream:
    """Decodes a fragmented MP4 file in memory."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(video=0))
    with av.open(io.BytesIO(data), "r") as file:
        blocks = [np.zeros(0, np.float32), *(block.to_ndarray()[0] for block in file.decode(audio=0))]
    return DecodedStream(
        [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames],
        [frame.time or 0.0 for frame in frames],
        np.concatenate(blocks),
    )


def changes(stream: DecodedStream) -> npt.NDArray[np.float64]:
    """Returns [frames - 1] mean differences of consecutive frames within the face box."""
    box = _face_box(stream)
    faces = [image[box.y1 : box.y2, box.x1 : box.x2].astype(np.int16) for image in stream.images]
    return np.array([np.abs(b - a).mean() for a, b in itertools.pairwise(faces)])


def seam_ratio(stream: DecodedStream, edges: list[float]) -> float:
    """Returns the largest change around `edges`, the seconds at which speech begins or ends, over the largest other."""
    difference = changes(stream)
    near = np.zeros(len(difference), bool)
    for edge in edges:
        frame = int(np.searchsorted(stream.times, edge))
        near[max(0, frame - _EDGE_FRAMES) : frame + _EDGE_FRAMES] = True
    return float(difference[near].max()) / float(difference[~near].max())


def silence_ratio(stream: DecodedStream, spans: list[tuple[float, float, bool]]) -> float:
    """Returns the mouth opening in silence over the opening in speech; `spans` are (begin, end, voiced) in seconds."""
    finder = FaceFinder()
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for begin, end, voiced in spans:
        for time, image in zip(stream.times, stream.images, strict=True):
            if begin <= time < end and (faces := finder.find(image)):
                gaps[voiced].append(float(lip_gap(faces[0].landmarks[None])[0]))
    rest = float(np.percentile(gaps[False], 5))
    return float((np.mean(gaps[False]) - rest) / max(1e-6, float(np.mean(gaps[True])) - rest))


def offset_ms(stream: DecodedStream, speech: npt.NDArray[np.float32], start_s: float) -> float:
    """Returns how much later than `start_s`, the time of the first image, the 48 kHz `speech` starts in the stream."""
    begin = round((start_s - 0.2) * 48_000)
    return (lag_s(stream.audio[begin : begin + 96_000], speech[:72_000]) - 0.2) * 1000


def lag_s(audio: npt.NDArray[np.float32], speech: npt.NDArray[np.float32]) -> float:
    """Returns the position of `speech` in `audio`, at most 1 s, by normalised cross-correlation.

    Both are 48 kHz and shorter than 2.7 s.
    """
    size = 1 << 18
    product = np.fft.irfft(np.fft.rfft(audio, size) * np.conj(np.fft.rfft(speech, size)))
    power = np.cumsum(np.pad(np.square(audio, dtype=np.float64), (1, size)))
    lags = np.arange(min(48_000, len(audio)))
    norms = np.sqrt(np.maximum(power[lags + len(speech)] - power[lags], 1e-3))
    return int(np.argmax(product[: len(lags)] / norms)) / 48_000


def _face_box(stream: DecodedStream) -> Box:
    faces = FaceFinder().find(stream.images[0])
    points = faces[0].landmarks
    low, high = points.min(0), points.max(0)
    height, width = stream.images[0].shape[:2]
    return Box(int(low[0]), int(low[1]), int(high[0]), int(high[1])).clipped(width, height)
