"""Fixture of a running infer service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rpc.infer.harness import Infer, running


@pytest.fixture
async def infer(avatars: Path, tmp_path: Path) -> AsyncIterator[Infer]:
    (tmp_path / "avatars").symlink_to(avatars)
    async for one in running(tmp_path):
        yield one
