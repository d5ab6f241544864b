"""Tests that need torch: their own environment (make test-streaming), their own fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.golden.tiny_checkpoint import build

GOLDEN = Path(__file__).parents[1] / "golden" / "data"


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in the published layout. Not to be changed: copy what you break."""
    return build(tmp_path_factory.mktemp("models"))
