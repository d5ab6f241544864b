"""A running prep service, and films for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.footage import film, grey, panned, photo, portrait
from tests.rpc.prep.harness import LONG, Prep, configured, running


@pytest.fixture
async def prep(tmp_path: Path) -> AsyncIterator[Prep]:
    async with running(configured(tmp_path)) as service:
        yield service


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return photo(tmp_path_factory.mktemp("photo") / "a.jpg", portrait()[:300, 60:400]).read_bytes()


@pytest.fixture(scope="session")
def short_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    images = panned(15) + grey(10) + panned(35)
    return film(tmp_path_factory.mktemp("film") / "a.mp4", images).read_bytes()


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("film") / "a.mp4", panned(LONG)).read_bytes()
