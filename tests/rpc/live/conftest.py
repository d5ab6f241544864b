"""A session service with one session, for the tests of live conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import make_avatar
from tests.rpc.session.harness import SessionHarness


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[SessionHarness]:
    make_avatar(tmp_path / "avatars")
    made = SessionHarness(tmp_path)
    await made.start()
    await made.create()
    yield made
    await made.close()
