"""Faces by DWPose: RTMPose-l for whole bodies, whose points 23 to 90 of 133 are the face's 68.

As the reference program looks (its configuration of mmpose, commit 0a89dec): pictures in RGB, 288 x 384, the person's
box 1.25 times as large, a mirrored second look, the peaks of two classifications over x and y. rtmlib brings that
without mmcv; the mirrored look is added here.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.core.ports import DetectedFace
from warmtalk.core.types import Box, Image

WIDTH, HEIGHT = 288, 384
"""Of the network's input, pixels."""
POINTS = 133
FACE = slice(23, 91)
BINS = 2
"""A pixel of the input."""
PADDING = 1.25
MIN_SCORE = 0.3
"""Of the 68 points, on average: the network gives points for any picture."""
MIN_FACE = 72
"""Pixels of the input. A face that would be smaller in a look at the whole picture is looked at from nearer."""

# fmt: off
MIRRORED = np.array([
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    27, 28, 29, 30, 35, 34, 33, 32, 31,  # nose
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,  # eyes
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,  # outer lips
    64, 63, 62, 61, 60, 67, 66, 65,  # inner lips
])
# fmt: on
"""iBUG point that each of the 68 becomes in a mirrored picture."""

_Array = npt.NDArray[np.float32]


class DwposeDetector:
    """See core.ports.FaceDetector. One face a look: at the whole picture, as the reference does, or at each hint."""

    name = "dwpose"

    def __init__(self, path: Path, device: str = "auto") -> None:
        """`path` is dw-ll_ucoco_384.onnx. Raises NotReady for a GPU that is not there, Damaged for another file."""
        from rtmlib import RTMPose

        place = _place(device)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it loads
                self._net = RTMPose(str(path), model_input_size=(WIDTH, HEIGHT), device=place)
            shapes = [
                tuple(one.shape[1:]) for one in (*self._net.session.get_inputs(), *self._net.session.get_outputs())
            ]
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise Damaged(f"{path} cannot be opened: {error}", "Run: warmtalk weights fetch dwpose") from error
        if shapes != [(3, HEIGHT, WIDTH), (POINTS, WIDTH * BINS), (POINTS, HEIGHT * BINS)]:
            raise Damaged(f"{path} is not DWPose's network of {WIDTH} x {HEIGHT}", "Run: warmtalk weights fetch dwpose")

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """See core.ports.FaceDetector."""
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        faces = [self._look(rgb, window) for window in windows(image.shape[1], image.shape[0], hints)]
        return sorted((face for face in faces if face.score >= MIN_SCORE), key=lambda face: -face.score)

    def _look(self, rgb: Image, window: Box) -> DetectedFace:
        pixels, centre, scale = self._net.preprocess(rgb, window.as_tuple())
        x, y = (one[:, FACE] for one in self._net.inference(pixels))
        mirrored_x, mirrored_y = (one[:, FACE] for one in self._net.inference(pixels[:, ::-1]))
        peaks = [(x + mirrored_x[:, MIRRORED, ::-1]) / 2, (y + mirrored_y[:, MIRRORED]) / 2]
        points, scores = self._net.postprocess(peaks, centre, scale, BINS)
        return DetectedFace(float(np.clip(scores, 0, 1).mean()), np.asarray(points[0], np.float32))


def windows(width: int, height: int, hints: Sequence[Box]) -> list[Box]:
    """Boxes of persons to look at: the whole picture for one face that is large in it, else head and shoulders of each.

    From afar a step of the network is several pixels of a wide picture: its points would jump by as much.
    """
    whole = Box(0, 0, width, height)
    pixels = max(width, height * WIDTH / HEIGHT) * PADDING / WIDTH
    if not hints or (len(hints) == 1 and hints[0].height >= MIN_FACE * pixels):
        return [whole]
    return [_head_and_shoulders(hint) for hint in hints]


def _head_and_shoulders(face: Box) -> Box:
    side = max(face.width, face.height)
    x, y = (face.x1 + face.x2) // 2, (face.y1 + face.y2) // 2
    return Box(x - side * 5 // 4, y - side * 5 // 4, x + side * 5 // 4, y + side * 25 // 12)


def _place(device: str) -> str:
    """rtmlib's name of a device."""
    import onnxruntime

    there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not there:
        raise NotReady(
            f"dwpose was asked to run on {device}, but onnxruntime has no CUDA", "Run: pip install onnxruntime-gpu"
        )
    return ("cuda" if there else "cpu") if device == "auto" else device
