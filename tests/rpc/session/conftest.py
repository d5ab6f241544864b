"""Fixture of the tests of Speak and of sessions: a running session service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import make_avatar
from tests.rpc.session.harness import SessionHarness


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[SessionHarness]:
    make_avatar(tmp_path / "avatars")
    harness = SessionHarness(tmp_path)
    await harness.start()
    yield harness
    await harness.close()
