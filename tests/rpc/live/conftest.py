"""A session service with one session, for the tests of live conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import make_avatar
from tests.rpc.session.desk import Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    make_avatar(tmp_path / "avatars")
    made = Desk(tmp_path)
    await made.start()
    await made.create()
    yield made
    await made.close()
