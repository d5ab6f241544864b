"""End to end with torch and tiny weights: an imported avatar speaks in a playable video."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from warmtalk.cli import main
from warmtalk.core.types import Samples


def test_render_with_musetalk(
    models: Path, avatars: Path, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((speech[:9600] * 32767).astype("<i2").tobytes())
    monkeypatch.setenv("WARMTALK_MODELS_DIR", str(models))
    monkeypatch.setenv("WARMTALK_DATA_DIR", str(avatars.parent))
    (avatars.parent / "avatars").exists() or (avatars.parent / "avatars").symlink_to(avatars)
    out = tmp_path / "talk.mp4"
    command = ["render", "--avatar", "synth", "--audio", str(tmp_path / "speech.wav"), "--out", str(out)]
    assert main([*command, "--renderer", "mesh"]) == 1  # the imported folder has no mesh
    assert main([*command, "--renderer", "musetalk"]) == 0
    capture = cv2.VideoCapture(str(out))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1].astype(int))
    assert len(frames) == 15
    assert np.abs(frames[0] - frames[-1]).max() > 20
