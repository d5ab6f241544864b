"""One running stack for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Machine, running_machine


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Iterator[Machine]:
    """A machine that is up, with an API key, the photo `photo.png` and its avatar `eileen`."""
    with running_machine(tmp_path_factory.mktemp("machine"), portrait) as one:
        assert "eileen" in one.run("avatar", "create", "eileen", "photo.png")
        yield one
