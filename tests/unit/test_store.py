"""Stores check every id before an id becomes a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmtalk.core.errors import InvalidInput, NotFound, NotReady
from warmtalk.store import AvatarStore, SessionStore, checked_id


@pytest.mark.parametrize(
    "bad", ["", "..", ".", "a/b", "/etc", "a\0b", "A", "-a", "_a", "ä", "a" * 64, "a" * 300, "a\n"]
)
def test_a_bad_id_is_refused(tmp_path: Path, bad: str) -> None:
    for path in (AvatarStore(tmp_path).path, AvatarStore(tmp_path).building_path, SessionStore(tmp_path).path):
        with pytest.raises(InvalidInput, match="Use 1 to 63"):
            path(bad)


@pytest.mark.parametrize("good", ["a", "0", "anna_2-b", "a" * 63])
def test_a_valid_id_is_returned(good: str) -> None:
    assert checked_id(good, "avatar_id") == good


def test_errors_name_missing_avatars(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path)
    with pytest.raises(NotFound, match=r"none yet.*warmtalk avatar create anna"):
        store.find("anna")
    store.building_path("anna").mkdir(parents=True)
    with pytest.raises(NotReady, match="still being built"):
        store.find("anna")
