"""One stack of services for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.stack import Services

NAMES = ("prep", "infer", "session", "gateway")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The four services; there is no avatar before the first test of test_page.py."""
    one = Services(tmp_path_factory.mktemp("stack"))
    try:
        one.start(*NAMES)
        yield one
    finally:
        one.stop()
