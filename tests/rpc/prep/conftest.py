"""Fixtures of the prep tests: a running service, a photo and two videos."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.footage import grey_frames, panned_frames, portrait, write_photo, write_video
from tests.rpc.prep.harness import LONG_FRAMES, PrepHarness, prep_config, running


@pytest.fixture
async def prep(tmp_path: Path) -> AsyncIterator[PrepHarness]:
    async with running(prep_config(tmp_path)) as service:
        yield service


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_photo(tmp_path_factory.mktemp("photo") / "a.jpg", portrait()[:300, 60:400]).read_bytes()


@pytest.fixture(scope="session")
def short_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    images = panned_frames(15) + grey_frames(10) + panned_frames(35)
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", images).read_bytes()


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", panned_frames(LONG_FRAMES)).read_bytes()
