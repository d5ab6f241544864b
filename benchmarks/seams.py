"""What a received live video looks like where speech begins and ends, and how the mouth rests in silence."""

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

_AROUND = 4
"""Frames before and after a transition that belong to it."""


@dataclass(frozen=True, slots=True)
class WatchedStream:
    """A decoded stream."""

    pictures: list[Image]
    times: list[float]
    sound: npt.NDArray[np.float32]
    """48 kHz."""


def watch(data: bytes) -> WatchedStream:
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(video=0))
    with av.open(io.BytesIO(data), "r") as file:
        sound = [np.zeros(0, np.float32), *(block.to_ndarray()[0] for block in file.decode(audio=0))]
    return WatchedStream(
        [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames],
        [frame.time or 0.0 for frame in frames],
        np.concatenate(sound),
    )


def changes(watched: WatchedStream) -> npt.NDArray[np.float64]:
    """[frames - 1] mean difference of each frame to the one before, where the face is."""
    box = _face(watched)
    parts = [picture[box.y1 : box.y2, box.x1 : box.x2].astype(np.int16) for picture in watched.pictures]
    return np.array([np.abs(b - a).mean() for a, b in itertools.pairwise(parts)])


def seam_ratio(watched: WatchedStream, edges: list[float]) -> float:
    """Largest change around the edges (seconds at which speech begins or ends) over the largest of all others."""
    difference = changes(watched)
    places = [int(np.searchsorted(watched.times, edge)) for edge in edges]
    near = np.zeros(len(difference), bool)
    for place in places:
        near[max(0, place - _AROUND) : place + _AROUND] = True
    return float(difference[near].max()) / float(difference[~near].max())


def silence_ratio(watched: WatchedStream, spans: list[tuple[float, float, bool]]) -> float:
    """Mouth opening in silence over that in speech; `spans` are (begin, end, voiced) in seconds. At least 0."""
    finder = FaceFinder()
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for begin, end, voiced in spans:
        for time, picture in zip(watched.times, watched.pictures, strict=True):
            if begin <= time < end and (found := finder.find(picture)):
                gaps[voiced].append(float(lip_gap(found[0].landmarks[None])[0]))
    rest = float(np.percentile(gaps[False], 5))
    return float((np.mean(gaps[False]) - rest) / max(1e-6, float(np.mean(gaps[True])) - rest))


def offset_ms(watched: WatchedStream, said: npt.NDArray[np.float32], start_s: float) -> float:
    """How much later the sound (48 kHz) is heard than at `start_s`, where its first picture is shown."""
    begin = round((start_s - 0.2) * 48_000)
    return (lag_s(watched.sound[begin : begin + 96_000], said[:72_000]) - 0.2) * 1000


def lag_s(heard: npt.NDArray[np.float32], said: npt.NDArray[np.float32]) -> float:
    """Where `said` begins in `heard`, up to 1 s; 48 kHz, each shorter than 2.7 s. By likeness, not by loudness."""
    size = 1 << 18
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)))
    power = np.cumsum(np.pad(np.square(heard, dtype=np.float64), (1, size)))
    places = np.arange(min(48_000, len(heard)))
    loud = np.sqrt(np.maximum(power[places + len(said)] - power[places], 1e-3))
    return int(np.argmax(product[: len(places)] / loud)) / 48_000


def _face(watched: WatchedStream) -> Box:
    found = FaceFinder().find(watched.pictures[0])
    points = found[0].landmarks
    low, high = points.min(0), points.max(0)
    height, width = watched.pictures[0].shape[:2]
    return Box(int(low[0]), int(low[1]), int(high[0]), int(high[1])).clipped(width, height)
