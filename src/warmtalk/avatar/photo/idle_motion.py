"""A photo that is alive: it breathes, sways a little and blinks.

Everything moves by smooth fields that are zero at the picture's border, so straight lines behind the person stay
straight to the eye. The cycle is played forth and back: every movement is a cosine with a whole number of half
waves in it, so it comes to rest at both ends and turns without a jerk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.face_detection import FaceObservation
from warmtalk.avatar.photo.blink import Blinker
from warmtalk.core.types import Box, Image, Points

_Array = npt.NDArray[np.float32]

_FOREHEAD, _CHIN, _NOSE = 10, 152, 1
_GRID = 4
"""The fields are smooth: every fourth pixel of them is computed, the rest interpolated."""
_BORDER = 0.18
"""Part of the picture's shorter side over which all movement fades to nothing at the border."""
_STEEPEST = 0.035
"""Most stretch of the surroundings: beyond, lines behind the person are seen to bend."""
_UNSEEN = 0.01
"""Pixels. Where nothing moves by more, the photo is left as it is."""
_BLINK_S = 0.17
"""From open to shut, or back."""
_BLINK_EVERY_S = 4.0
_LEAST_FOR_BLINK_S = 2.4
_FIXED_POINT_STEPS = 4


@dataclass(frozen=True, slots=True)
class _Wave:
    """One movement: its size in heights of the face (roll: in radians) and its period."""

    size: float
    period_s: float


_MOVEMENTS = (
    (_Wave(0.010, 4.0),),  # breath
    (_Wave(0.009, 8.0), _Wave(0.003, 2.7)),  # sway
    (_Wave(0.006, 8.0), _Wave(-0.003, 4.0)),  # roll
    (_Wave(0.010, 5.3), _Wave(0.004, 2.7)),  # turn
    (_Wave(0.007, 4.0), _Wave(-0.003, 2.7)),  # nod
)
"""In the order of _Field.fields."""
_OUTER = 3
"""The first so many move what is around the face, too."""
_LARGEST = np.array([sum(abs(wave.size) for wave in group) for group in _MOVEMENTS], np.float32)


class IdleMotion:
    """A source (see scan.Source) made of one photo. One thread."""

    drawn = True
    remarks: tuple[str, ...] = ()

    def __init__(self, image: Image, face: FaceObservation, frames: int, fps: float) -> None:
        """`image` [H, W, 3] uint8 BGR and its face, `frames` of one way through the cycle."""
        mesh = face.landmarks
        self._apart = face.apart
        self.expected = frames
        self._fps = fps
        self._blinker = Blinker(image, mesh)
        height, width = image.shape[:2]
        self._field = _Field(mesh, width, height)
        self._blinks = _blinks(frames, fps)
        self._box = self._field.reach()

    def __iter__(self) -> Iterator[Image]:
        return (self.frame(index) for index in range(self.expected))

    def look(self, index: int, image: Image) -> list[FaceObservation]:
        return [FaceObservation(1.0, self.mesh(index), self._apart)]

    def frame(self, index: int) -> Image:
        source, box = self._blinker.image(self._closed(index)), self._box
        dx, dy = self._field.offsets(self._moves(index), box)
        y, x = np.mgrid[box.y1 : box.y2, box.x1 : box.x2].astype(np.float32)
        moved = source.copy()
        cv2.remap(
            source,
            x + dx,
            y + dy,
            cv2.INTER_LANCZOS4,
            dst=moved[box.y1 : box.y2, box.x1 : box.x2],
            borderMode=cv2.BORDER_REPLICATE,
        )
        return moved

    def mesh(self, index: int) -> Points:
        """The face of `frame(index)`, moved by the same fields, so that it never trembles."""
        return self._field.moved(self._blinker.mesh(self._closed(index)), self._moves(index))

    def _moves(self, index: int) -> _Array:
        """Size of each movement at this frame, in the order of _Field.fields."""
        return np.array([sum(self._wave(wave, index) for wave in group) for group in _MOVEMENTS], np.float32)

    def _wave(self, wave: _Wave, index: int) -> float:
        halves = max(1, round(2 * self.expected / (self._fps * wave.period_s)))
        # A short cycle cannot hold a slow wave: make it smaller rather than hasty.
        calm = min(1.0, 2 * self.expected / (halves * self._fps * wave.period_s))
        return wave.size * calm * float(np.cos(np.pi * halves * (index + 0.5) / self.expected))

    def _closed(self, index: int) -> float:
        nearest = min((abs(index - blink) for blink in self._blinks), default=self.expected)
        t = np.clip(1.2 * (1 - nearest / (self._fps * _BLINK_S)), 0, 1)
        return float(t * t * (3 - 2 * t))


class _Field:
    """Where each place of the result comes from: result(p) = photo(p + offset(p))."""

    def __init__(self, mesh: Points, width: int, height: int) -> None:
        self._size = np.array([width, height], np.float32)
        self._face = float(np.linalg.norm(mesh[_CHIN] - mesh[_FOREHEAD]))
        self._chin, self._nose = mesh[_CHIN], mesh[_NOSE]
        self._centre = (mesh[_CHIN] + mesh[_FOREHEAD]) / 2 - np.array([0, 0.1 * self._face], np.float32)
        x = (np.arange(-(-width // _GRID), dtype=np.float32) + 0.5) * _GRID - 0.5
        y = (np.arange(-(-height // _GRID), dtype=np.float32) + 0.5) * _GRID - 0.5
        self._grid = self.fields(np.stack(np.meshgrid(x, y), -1))
        calm = min(1.0, _STEEPEST / max(self._steepness(), 1e-9))
        # Turn and nod stay inside the face: a face that fills the picture can still do them.
        self._calm = np.array([calm] * _OUTER + [1.0] * (len(_MOVEMENTS) - _OUTER), np.float32)

    def offsets(self, moves: _Array, box: Box) -> tuple[_Array, _Array]:
        """x and y offsets of a box that `reach` gave, each [height, width], in pixels."""
        part = np.s_[box.y1 // _GRID : -(-box.y2 // _GRID), box.x1 // _GRID : -(-box.x2 // _GRID)]
        small = np.tensordot(moves * self._calm, self._grid[:, *part], 1)
        size = (small.shape[1] * _GRID, small.shape[0] * _GRID)
        full = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.float32)
        return full[: box.height, : box.width, 0], full[: box.height, : box.width, 1]

    def reach(self) -> Box:
        """Where anything ever moves; its left and upper side are multiples of the grid."""
        most = np.tensordot(_LARGEST, np.abs(self._grid).max(-1), 1) > _UNSEEN
        x, y, width, height = cv2.boundingRect(most.astype(np.uint8))
        whole = Box(0, 0, int(self._size[0]), int(self._size[1]))
        return Box(x * _GRID, y * _GRID, (x + width) * _GRID, (y + height) * _GRID).clipped(whole.x2, whole.y2)

    def moved(self, points: Points, moves: _Array) -> Points:
        """[K, 2] where points of the photo are in the result."""
        result = points
        for _ in range(_FIXED_POINT_STEPS):
            result = points - np.tensordot(moves * self._calm, self.fields(result), 1)
        return np.asarray(result, np.float32)

    def fields(self, at: _Array) -> _Array:
        """[..., 2] places to [5, ..., 2] offsets in pixels, one for each movement of size 1: breath, sway, roll,
        turn, nod.
        """
        border = self._border(at)
        from_centre = (at - self._centre) / self._face
        head = (1 - _rise(np.hypot(from_centre[..., 0] / 0.65, from_centre[..., 1] / 0.85), 0.9, 2.4)) * border
        from_chest = (at - self._chin) / self._face - np.array([0, 0.9], np.float32)
        chest = (1 - _rise(np.hypot(from_chest[..., 0] / 1.7, from_chest[..., 1] / 0.9), 0.2, 1.6)) * border
        from_nose = (at - self._nose) / self._face
        bulge = np.exp(-((from_nose[..., 0] / 0.42) ** 2) - (from_nose[..., 1] / 0.5) ** 2) * border
        neck = (at - self._chin) / self._face - np.array([0, 0.5], np.float32)
        nothing = np.zeros_like(head)
        offsets = [
            (nothing, chest * (1 - head) + 0.5 * head),
            (head, nothing),
            (-head * neck[..., 1], head * neck[..., 0]),
            (bulge, nothing),
            (nothing, bulge),
        ]
        return np.stack([np.stack(pair, -1) for pair in offsets]).astype(np.float32) * np.float32(self._face)

    def _border(self, at: _Array) -> _Array:
        near = np.minimum(at, self._size - 1 - at) / (_BORDER * float(self._size.min()))
        return np.asarray(_rise(near[..., 0], 0, 1) * _rise(near[..., 1], 0, 1), np.float32)

    def _steepness(self) -> float:
        """Most stretch per pixel of what moves the surroundings too, all at their largest.

        Stretch is the symmetric part of the slope: a plain turn bends nothing.
        """
        outer = self._grid[:_OUTER] / _GRID
        down, across = (np.asarray(np.gradient(outer, axis=axis)) for axis in (1, 2))
        parts = (across[..., 0], down[..., 1], (across[..., 1] + down[..., 0]) / 2)
        return max(float(np.tensordot(_LARGEST[:_OUTER], np.abs(part), 1).max()) for part in parts)


def _blinks(frames: int, fps: float) -> list[int]:
    """Frames in which the eyes are shut. Forth and back again they come at uneven distances, as in life."""
    seconds = frames / fps
    if seconds < _LEAST_FOR_BLINK_S:
        return []
    count = max(1, round(seconds / _BLINK_EVERY_S))
    return [round(frames * (i + 0.42) / count) for i in range(count)]


def _rise(x: _Array, start: float, stop: float) -> _Array:
    """0 before start, 1 after stop, with no edge in value, slope or curvature between."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return np.asarray(t * t * t * (t * (6 * t - 15) + 10), np.float32)
