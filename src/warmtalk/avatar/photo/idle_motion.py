"""Idle motion of a photo: breathing, a slight sway and blinks.

All motion is produced by smooth displacement fields that are zero at the image's border, so straight lines behind the
person stay straight to the eye. The cycle is played forwards and backwards: each movement is a cosine with a whole
number of half waves per cycle, so the movement is at rest at both ends and reverses without a jerk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.avatar.detect.face_detection import FaceObservation
from warmtalk.avatar.photo.blink import BlinkLayer
from warmtalk.core.types import Box, Image, Points

_Array = npt.NDArray[np.float32]

_FOREHEAD, _CHIN, _NOSE = 10, 152, 1
_GRID = 4
"""The fields are smooth, so every fourth pixel is computed and the rest interpolated."""
_BORDER = 0.18
"""Share of the image's shorter side over which all movement fades to zero at the border."""
_MAX_STRETCH = 0.035
"""Maximum stretch of the surroundings: beyond, lines behind the person bend visibly."""
_MIN_DISPLACEMENT = 0.01
"""Pixels. Where no movement exceeds this distance, the photo is left unchanged."""
_BLINK_S = 0.17
"""Seconds from open to closed, or back."""
_BLINK_INTERVAL_S = 4.0
_MIN_BLINK_CYCLE_S = 2.4
_FIXED_POINT_STEPS = 4


@dataclass(frozen=True, slots=True)
class _Wave:
    """One movement: amplitude in heights of the face (roll: in radians) and period."""

    amplitude: float
    period_s: float


_MOVEMENTS = (
    (_Wave(0.010, 4.0),),  # breath
    (_Wave(0.009, 8.0), _Wave(0.003, 2.7)),  # sway
    (_Wave(0.006, 8.0), _Wave(-0.003, 4.0)),  # roll
    (_Wave(0.010, 5.3), _Wave(0.004, 2.7)),  # turn
    (_Wave(0.007, 4.0), _Wave(-0.003, 2.7)),  # nod
)
"""In the order of _DisplacementField.fields."""
_OUTER = 3
"""Number of movements, the first ones, that also move the surroundings of the face."""
_MAX_AMPLITUDES = np.array([sum(abs(wave.amplitude) for wave in group) for group in _MOVEMENTS], np.float32)


class IdleMotion:
    """A ScanSource (see source_scan) rendered from one photo. Use from one thread only."""

    synthetic = True
    warnings: tuple[str, ...] = ()

    def __init__(self, image: Image, face: FaceObservation, frames: int, fps: float) -> None:
        """`image` is [H, W, 3] uint8 BGR, `face` the face in it, `frames` the length of the cycle in one direction."""
        mesh = face.landmarks
        self._detector_offset = face.detector_offset
        self.expected_frames = frames
        self._fps = fps
        self._blink_layer = BlinkLayer(image, mesh)
        height, width = image.shape[:2]
        self._field = _DisplacementField(mesh, width, height)
        self._blinks = _blinks(frames, fps)
        self._box = self._field.moving_area()

    def __iter__(self) -> Iterator[Image]:
        return (self.frame(index) for index in range(self.expected_frames))

    def detect_faces(self, index: int, image: Image) -> list[FaceObservation]:
        """Returns the photo's face, moved as in frame `index`."""
        return [FaceObservation(1.0, self.mesh(index), self._detector_offset)]

    def frame(self, index: int) -> Image:
        """Returns frame `index`, rendered from the photo."""
        source, box = self._blink_layer.image(self._eye_closure(index)), self._box
        dx, dy = self._field.offsets(self._amplitudes(index), box)
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
        """Returns the [468, 2] mesh of `frame(index)`, moved by the same fields and therefore free of jitter."""
        return self._field.moved(self._blink_layer.mesh(self._eye_closure(index)), self._amplitudes(index))

    def _amplitudes(self, index: int) -> _Array:
        """Returns the value of each movement at this frame, in the order of _DisplacementField.fields."""
        return np.array([sum(self._wave(wave, index) for wave in group) for group in _MOVEMENTS], np.float32)

    def _wave(self, wave: _Wave, index: int) -> float:
        halves = max(1, round(2 * self.expected_frames / (self._fps * wave.period_s)))
        # A short cycle cannot contain a slow wave: reduce the amplitude instead of the period.
        damping = min(1.0, 2 * self.expected_frames / (halves * self._fps * wave.period_s))
        return wave.amplitude * damping * float(np.cos(np.pi * halves * (index + 0.5) / self.expected_frames))

    def _eye_closure(self, index: int) -> float:
        nearest = min((abs(index - blink) for blink in self._blinks), default=self.expected_frames)
        t = np.clip(1.2 * (1 - nearest / (self._fps * _BLINK_S)), 0, 1)
        return float(t * t * (3 - 2 * t))


class _DisplacementField:
    """Maps each pixel of the result to a position in the photo: result(p) = photo(p + offset(p))."""

    def __init__(self, mesh: Points, width: int, height: int) -> None:
        self._size = np.array([width, height], np.float32)
        self._face = float(np.linalg.norm(mesh[_CHIN] - mesh[_FOREHEAD]))
        self._chin, self._nose = mesh[_CHIN], mesh[_NOSE]
        self._centre = (mesh[_CHIN] + mesh[_FOREHEAD]) / 2 - np.array([0, 0.1 * self._face], np.float32)
        x = (np.arange(-(-width // _GRID), dtype=np.float32) + 0.5) * _GRID - 0.5
        y = (np.arange(-(-height // _GRID), dtype=np.float32) + 0.5) * _GRID - 0.5
        self._grid = self.fields(np.stack(np.meshgrid(x, y), -1))
        damping = min(1.0, _MAX_STRETCH / max(self._max_stretch(), 1e-9))
        # Turn and nod stay inside the face, so a face that fills the image keeps both at full amplitude.
        self._damping = np.array([damping] * _OUTER + [1.0] * (len(_MOVEMENTS) - _OUTER), np.float32)

    def offsets(self, amplitudes: _Array, box: Box) -> tuple[_Array, _Array]:
        """Returns x and y offsets in pixels, each [height, width], for a box returned by `moving_area`."""
        part = np.s_[box.y1 // _GRID : -(-box.y2 // _GRID), box.x1 // _GRID : -(-box.x2 // _GRID)]
        small = np.tensordot(amplitudes * self._damping, self._grid[:, *part], 1)
        size = (small.shape[1] * _GRID, small.shape[0] * _GRID)
        full = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.float32)
        return full[: box.height, : box.width, 0], full[: box.height, : box.width, 1]

    def moving_area(self) -> Box:
        """Returns the box outside of which nothing moves; its left and upper side are multiples of the grid."""
        moving = np.tensordot(_MAX_AMPLITUDES, np.abs(self._grid).max(-1), 1) > _MIN_DISPLACEMENT
        x, y, width, height = cv2.boundingRect(moving.astype(np.uint8))
        whole = Box(0, 0, int(self._size[0]), int(self._size[1]))
        return Box(x * _GRID, y * _GRID, (x + width) * _GRID, (y + height) * _GRID).clipped(whole.x2, whole.y2)

    def moved(self, points: Points, amplitudes: _Array) -> Points:
        """Returns the [K, 2] positions in the result of points of the photo."""
        result = points
        for _ in range(_FIXED_POINT_STEPS):
            result = points - np.tensordot(amplitudes * self._damping, self.fields(result), 1)
        return np.asarray(result, np.float32)

    def fields(self, positions: _Array) -> _Array:
        """Returns [5, ..., 2] offsets in pixels at [..., 2] positions, one for each movement of amplitude 1: breath,
        sway, roll, turn, nod.
        """
        border = self._border(positions)
        from_centre = (positions - self._centre) / self._face
        head = (1 - _smootherstep(np.hypot(from_centre[..., 0] / 0.65, from_centre[..., 1] / 0.85), 0.9, 2.4)) * border
        from_chest = (positions - self._chin) / self._face - np.array([0, 0.9], np.float32)
        chest = (1 - _smootherstep(np.hypot(from_chest[..., 0] / 1.7, from_chest[..., 1] / 0.9), 0.2, 1.6)) * border
        from_nose = (positions - self._nose) / self._face
        bulge = np.exp(-((from_nose[..., 0] / 0.42) ** 2) - (from_nose[..., 1] / 0.5) ** 2) * border
        neck = (positions - self._chin) / self._face - np.array([0, 0.5], np.float32)
        zero = np.zeros_like(head)
        offsets = [
            (zero, chest * (1 - head) + 0.5 * head),
            (head, zero),
            (-head * neck[..., 1], head * neck[..., 0]),
            (bulge, zero),
            (zero, bulge),
        ]
        return np.stack([np.stack(pair, -1) for pair in offsets]).astype(np.float32) * np.float32(self._face)

    def _border(self, positions: _Array) -> _Array:
        near = np.minimum(positions, self._size - 1 - positions) / (_BORDER * float(self._size.min()))
        return np.asarray(_smootherstep(near[..., 0], 0, 1) * _smootherstep(near[..., 1], 0, 1), np.float32)

    def _max_stretch(self) -> float:
        """Returns the maximum stretch per pixel of the movements that include the surroundings, at full amplitude.

        Stretch is the symmetric part of the gradient: a pure rotation bends no line.
        """
        outer = self._grid[:_OUTER] / _GRID
        down, across = (np.asarray(np.gradient(outer, axis=axis)) for axis in (1, 2))
        parts = (across[..., 0], down[..., 1], (across[..., 1] + down[..., 0]) / 2)
        return max(float(np.tensordot(_MAX_AMPLITUDES[:_OUTER], np.abs(part), 1).max()) for part in parts)


def _blinks(frames: int, fps: float) -> list[int]:
    """Returns the frames with closed eyes. Played forwards and backwards, the intervals are uneven, as in real life."""
    seconds = frames / fps
    if seconds < _MIN_BLINK_CYCLE_S:
        return []
    count = max(1, round(seconds / _BLINK_INTERVAL_S))
    return [round(frames * (i + 0.42) / count) for i in range(count)]


def _smootherstep(x: _Array, start: float, stop: float) -> _Array:
    """Returns 0 before start and 1 after stop, with continuous value, slope and curvature."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return np.asarray(t * t * t * (t * (6 * t - 15) + 10), np.float32)
