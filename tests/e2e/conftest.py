"""One running stack for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import LocalStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Iterator[LocalStack]:
    """A running stack with an API key, the photo `photo.png` and the avatar `eileen`."""
    with running_stack(tmp_path_factory.mktemp("stack"), portrait) as one:
        assert "eileen" in one.run("avatar", "create", "eileen", "photo.png")
        yield one
