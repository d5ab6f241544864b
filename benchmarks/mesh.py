"""python -m benchmarks.mesh: what the embedded renderer costs, one core."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks import card, inputs
from warmtalk.core.mouth import MouthShape, to_features
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock
from warmtalk.models.faces.face_finder import FaceFinder
from warmtalk.models.mesh.renderer import MeshRenderer
from warmtalk.models.mouth.net import TrainedMouth

_FACES = 50


def measure() -> list[tuple[str, float, str]]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder))
    finally:
        cv2.setNumThreads(threads)


def _measure(folder: Path) -> list[tuple[str, float, str]]:
    renderer, finder = MeshRenderer(), FaceFinder()
    avatar = renderer.prepare(inputs.bundle(folder))
    talk = to_features(*[_shape(number) for number in range(_FACES)])
    frame = avatar.bundle.frame(0)

    def first_of_a_row() -> None:
        avatar.rows.clear()
        renderer.render(avatar, [0], talk[:1])

    face = card.median_ms(lambda: renderer.render(avatar, [0] * _FACES, talk), inner=1) / _FACES
    first = card.median_ms(first_of_a_row)
    find = card.median_ms(lambda: finder.find(frame))
    return [
        ("mouth_ms_per_frame", _mouth_ms(), "ms to hear one frame of sound at 25 fps"),
        ("mesh_ms_per_face", face, "ms a face of 256 x 256, one core (target 3)"),
        ("mesh_ms_first_of_row", first, "ms the first time a source frame is drawn on"),
        ("face_finder_ms", find, "ms to find a face and its 468 points at 720p"),
    ]


def _mouth_ms() -> float:
    sound = np.frombuffer(inputs.speech(2.0)[44:], "<i2").astype(np.float32) / np.float32(32768)
    encoder = TrainedMouth()

    def hear() -> None:
        stream = encoder.start_stream(FrameClock())
        stream.push_audio(sound)
        stream.finish()

    return card.median_ms(hear, inner=1) / FrameClock().frames_for(len(sound), SPEECH_RATE_HZ)


def _shape(number: int) -> MouthShape:
    """Something like speech: the mouth goes through all its shapes."""
    return MouthShape(
        opening=max(0.12 + 0.14 * float(np.sin(number / 2)), 0),
        width=0.1 * float(np.sin(number / 5)),
        protrusion=max(float(np.sin(number / 7)), 0),
        press=max(float(np.cos(number / 3)), 0),
    )


if __name__ == "__main__":
    card.show("mesh renderer", measure())
