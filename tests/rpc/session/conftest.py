"""A session service, and what stands behind it."""

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
    yield made
    await made.close()
