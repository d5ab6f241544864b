"""python -m benchmarks.mesh: time of the embedded renderer on one core."""

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


def measure() -> card.Rows:
    """Returns the times of encoder, renderer and face finder."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(Path(folder))
    finally:
        cv2.setNumThreads(threads)


def _measure(folder: Path) -> card.Rows:
    renderer, finder = MeshRenderer(), FaceFinder()
    avatar = renderer.prepare(inputs.build_bundle(folder))
    features = to_features(*[_mouth_shape(number) for number in range(_FACES)])
    frame = avatar.bundle.frame(0)

    def render_unprepared_row() -> None:
        avatar.rows.clear()
        renderer.render(avatar, [0], features[:1])

    face_ms = card.median_ms(lambda: renderer.render(avatar, [0] * _FACES, features), inner=1) / _FACES
    first_ms = card.median_ms(render_unprepared_row)
    finder_ms = card.median_ms(lambda: finder.find(frame))
    return [
        ("mouth_ms_per_frame", _encoder_ms(), "ms to encode the audio of one frame at 25 fps"),
        ("mesh_ms_per_face", face_ms, "ms per face of 256 x 256, one core (target 3)"),
        ("mesh_ms_first_of_row", first_ms, "ms for the first face on a source frame"),
        ("face_finder_ms", finder_ms, "ms to find a face and 468 landmarks at 720p"),
    ]


def _encoder_ms() -> float:
    audio = np.frombuffer(inputs.synthetic_speech(2.0)[44:], "<i2").astype(np.float32) / np.float32(32768)
    encoder = TrainedMouth()

    def encode() -> None:
        stream = encoder.start_stream(FrameClock())
        stream.push_audio(audio)
        stream.finish()

    return card.median_ms(encode, inner=1) / FrameClock().frames_for(len(audio), SPEECH_RATE_HZ)


def _mouth_shape(number: int) -> MouthShape:
    """Returns a sequence of shapes like speech, which covers all features."""
    return MouthShape(
        opening=max(0.12 + 0.14 * float(np.sin(number / 2)), 0),
        width=0.1 * float(np.sin(number / 5)),
        protrusion=max(float(np.sin(number / 7)), 0),
        press=max(float(np.cos(number / 3)), 0),
    )


if __name__ == "__main__":
    card.print_card("mesh renderer", measure())
