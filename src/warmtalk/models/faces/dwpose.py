"""Face detector by DWPose: RTMPose-l for whole bodies. Points 23 to 90 of 133 are the 68 points of the face.

The detection equals the reference program's configuration of mmpose (commit 0a89dec): RGB images, 288 x 384, the
person's box enlarged by 1.25, a second pass on the mirrored input, the peaks of two classifications over x and y.
rtmlib runs the network without mmcv; the mirrored pass is added here.
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
"""Size of the network's input, pixels."""
POINTS = 133
FACE = slice(23, 91)
BINS = 2
"""Classification bins per pixel of the input."""
PADDING = 1.25
MIN_SCORE = 0.3
"""Minimum mean score of the 68 points: the network returns points for every image, with or without a face."""
MIN_FACE = 72
"""Pixels of the input. A face that is smaller in the input for the whole image gets a window of its own."""

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
"""Index in the mirrored image of each of the 68 iBUG points."""

_Array = npt.NDArray[np.float32]


class DwposeDetector:
    """A core.ports.FaceDetector. One face per window: the whole image, as in the reference, or a window per hint."""

    name = "dwpose"

    def __init__(self, path: Path, device: str = "auto") -> None:
        """`path` is dw-ll_ucoco_384.onnx. Raises NotReady for a missing GPU, Damaged for another file."""
        from rtmlib import RTMPose

        rtmlib_device = _rtmlib_device(device)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints the name of the loaded file
                self._net = RTMPose(str(path), model_input_size=(WIDTH, HEIGHT), device=rtmlib_device)
            shapes = [
                tuple(one.shape[1:]) for one in (*self._net.session.get_inputs(), *self._net.session.get_outputs())
            ]
        except Exception as error:  # the errors of onnxruntime have no common base class
            raise Damaged(f"{path} cannot be opened: {error}", "Run: warmtalk weights fetch dwpose") from error
        if shapes != [(3, HEIGHT, WIDTH), (POINTS, WIDTH * BINS), (POINTS, HEIGHT * BINS)]:
            raise Damaged(f"{path} is not DWPose's network of {WIDTH} x {HEIGHT}", "Run: warmtalk weights fetch dwpose")

    def detect(self, image: Image, hints: Sequence[Box] = ()) -> list[DetectedFace]:
        """See core.ports.FaceDetector."""
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        faces = [self._detect_window(rgb, window) for window in windows(image.shape[1], image.shape[0], hints)]
        return sorted((face for face in faces if face.score >= MIN_SCORE), key=lambda face: -face.score)

    def _detect_window(self, rgb: Image, window: Box) -> DetectedFace:
        pixels, centre, scale = self._net.preprocess(rgb, window.as_tuple())
        x, y = (one[:, FACE] for one in self._net.inference(pixels))
        mirrored_x, mirrored_y = (one[:, FACE] for one in self._net.inference(pixels[:, ::-1]))
        peaks = [(x + mirrored_x[:, MIRRORED, ::-1]) / 2, (y + mirrored_y[:, MIRRORED]) / 2]
        points, scores = self._net.postprocess(peaks, centre, scale, BINS)
        return DetectedFace(float(np.clip(scores, 0, 1).mean()), np.asarray(points[0], np.float32))


def windows(width: int, height: int, hints: Sequence[Box]) -> list[Box]:
    """Returns the windows to search: the whole image for one large face, or else the head and shoulders of each hint.

    In a wide image one bin of the network covers several pixels, so the points of a small face would jump by that
    distance.
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


def _rtmlib_device(device: str) -> str:
    """Returns rtmlib's name of a device."""
    import onnxruntime

    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not available:
        raise NotReady(
            f"dwpose was asked to run on {device}, but onnxruntime has no CUDA", "Run: pip install onnxruntime-gpu"
        )
    return ("cuda" if available else "cpu") if device == "auto" else device
