"""The cache of what was used last."""

import pytest

from bonfire.access.recent import Recent


def test_a_value_is_made_once() -> None:
    cache: Recent[int] = Recent(2)
    assert cache.get("a", lambda: 1) == 1
    assert cache.get("a", lambda: 2) == 1


def test_what_was_used_longest_ago_makes_room() -> None:
    cache: Recent[int] = Recent(2)
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 1)
    cache.get("a", lambda: 2)
    cache.get("c", lambda: 1)
    assert cache.get("a", lambda: 2) == 1
    assert cache.get("b", lambda: 2) == 2


def test_what_fails_is_not_kept() -> None:
    cache: Recent[int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: 3) == 3
