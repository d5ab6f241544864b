"""Fixtures of the tests that need torch, which run in an environment of their own (make test-streaming)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.tiny_checkpoint import build
from warmtalk.avatar.import_musetalk import import_musetalk_avatar
from warmtalk.core.types import Samples
from warmtalk.models.musetalk.networks import MuseTalk
from warmtalk.models.musetalk.renderer import MuseTalkRenderer
from warmtalk.models.musetalk.whisper import WhisperEncoder
from warmtalk.store import AvatarStore

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden" / "data"


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in the published layout. Shared: copy files before changing them."""
    return build(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatars folder with `synth`, 6 frames, imported from the reference program's cache. Shared, as `models`."""
    root = tmp_path_factory.mktemp("avatars")
    import_musetalk_avatar(GOLDEN / "synth_avatar_v15", "synth", AvatarStore(root), fps=Fraction(25))
    return root


@pytest.fixture(scope="session")
def speech() -> Samples:
    """1.2 s of the golden clip at 16 kHz."""
    return np.asarray(np.load(GOLDEN / "synth_audio.npz")["pcm16k"][:19_200], np.float32)


@pytest.fixture(scope="session")
def encoder(models: Path) -> WhisperEncoder:
    return WhisperEncoder(models, CPU, torch.float32)


@pytest.fixture(scope="session")
def networks(models: Path) -> MuseTalk:
    """v1.5 in fp32. Shared: a test that changes the execution mode loads its own."""
    return MuseTalk(models, "v15", CPU, torch.float32)


@pytest.fixture(scope="session")
def renderer(networks: MuseTalk) -> MuseTalkRenderer:
    return MuseTalkRenderer(networks)
