"""Writes a file in the format of dw-ll_ucoco_384.onnx with a known output, without the published weights.

The 133 points lie around the reddest pixel of the image, as in `layout`. A mirrored image gives the mirrored points,
as with the real network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEIGHT, POINTS = 288, 384, 133


def layout() -> npt.NDArray[np.int64]:
    """Returns [68, 2] offsets in pixels of the input from the reddest pixel: a symmetric face in iBUG order."""
    arc = np.linspace(-90, 90, 17)
    jaw = np.stack([40 * np.sin(np.radians(arc)), 45 * np.cos(np.radians(arc)) - 10], 1)
    brow = np.array([[-34, -22], [-28, -26], [-22, -28], [-16, -27], [-10, -24]])
    nose = np.array([[0, -14], [0, -8], [0, -2], [0, 4], [-8, 9], [-4, 10], [0, 11], [4, 10], [8, 9]])
    eye = np.array([[-28, -14], [-24, -17], [-18, -17], [-14, -14], [-18, -12], [-24, -12]])
    other = np.array([[14, -14], [18, -17], [24, -17], [28, -14], [24, -12], [18, -12]])
    lips = np.array([[-16, 20], [-10, 17], [-4, 16], [0, 17], [4, 16], [10, 17], [16, 20]])
    under = np.array([[10, 25], [5, 27], [0, 28], [-5, 27], [-10, 25]])
    inner = np.array([[-13, 20], [-5, 19], [0, 20], [5, 19], [13, 20], [5, 22], [0, 23], [-5, 22]])
    parts = [jaw, brow, (brow * [-1, 1])[::-1], nose, eye, other, lips, under, inner]
    return np.rint(np.concatenate(parts)).astype(np.int64)


def write(path: Path, width: int = WIDTH) -> Path:
    """Writes the ONNX file; another `width` makes a network of another shape."""
    shifts = np.zeros((POINTS, 2), np.int64)
    shifts[23:91] = layout()
    nodes, constants = [], []
    for axis, (name, length) in enumerate((("x", width), ("y", HEIGHT))):
        bins = np.arange(2 * length) // 2
        positions = np.clip(bins[None] - shifts[:, axis, None], 0, length - 1)
        constants.append(numpy_helper.from_array(positions, f"positions_{name}"))
        constants.append(numpy_helper.from_array(np.array([2 if axis == 0 else 3]), f"over_{name}"))
        nodes.append(helper.make_node("ReduceMax", ["red", f"over_{name}"], [f"profile_{name}"], keepdims=0))
        nodes.append(helper.make_node("Squeeze", [f"profile_{name}", "channel"], [f"line_{name}"]))
        nodes.append(helper.make_node("Gather", [f"line_{name}", f"positions_{name}"], [f"simcc_{name}"], axis=1))
    constants += [
        numpy_helper.from_array(np.array([value]), name) for name, value in (("zero", 0), ("one", 1), ("channel", 1))
    ]
    red = helper.make_node("Slice", ["input", "zero", "one", "channel"], ["red"])
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, HEIGHT, width])
    outputs = [
        helper.make_tensor_value_info(f"simcc_{name}", TensorProto.FLOAT, ["batch", POINTS, 2 * length])
        for name, length in (("x", width), ("y", HEIGHT))
    ]
    graph = helper.make_graph([red, *nodes], "pose", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
