"""Fixtures of all tests: a photo, avatars built once per run, and speech."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.audio import SPEECH
from warmtalk.avatar.build_request import BuildParams, BuildRequest
from warmtalk.avatar.builder import AvatarBuilder
from warmtalk.core.types import Samples
from warmtalk.media.video_decode import SourceLimits
from warmtalk.sample_photo import read_sample_photo
from warmtalk.store import AvatarStore


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eileen Collins (NASA, public domain), 512 x 512."""
    path = tmp_path_factory.mktemp("portrait") / "eileen.png"
    cv2.imwrite(str(path), read_sample_photo())
    return path


@pytest.fixture(scope="session")
def avatars(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatars folder with `eileen`: 25 frames of 512 x 512. Read-only; a test that changes files needs a copy."""
    root = tmp_path_factory.mktemp("avatars")
    digest = hashlib.sha256(portrait.read_bytes()).hexdigest()
    request = BuildRequest("eileen", portrait, portrait.name, digest, BuildParams(still_seconds=1.0))
    AvatarBuilder(AvatarStore(root), SourceLimits()).build(request, lambda progress: None)
    return root


@pytest.fixture(scope="session")
def speech() -> Samples:
    """Two seconds of audio at 16 kHz: syllables, then 0.6 s of silence."""
    samples = SPEECH.copy()
    samples[-9_600:] = 0
    assert np.abs(samples).max() > 0.1
    return samples
