"""Whose results may be resumed: all that a result depends on besides its position is in the stream's name."""

import pytest

from bonfire.access.principal import Principal
from bonfire.sync.stream import same_history, stream_name

SOURCE = "wal-7380-1-16384"
ADA = Principal("north", "ada", "Ada")


@pytest.mark.parametrize(
    ("source", "functions", "principal", "access"),
    [
        ("listen-7380-1-16384", "f1", ADA, "all"),
        ("wal-7380-2-16384", "f1", ADA, "all"),
        (SOURCE, "f2", ADA, "all"),
        (SOURCE, "f1", Principal("south", "ada", "Ada"), "all"),
        (SOURCE, "f1", Principal("north", "bob", "Ada"), "all"),
        (SOURCE, "f1", ADA, "less"),
    ],
)
def test_whatever_differs_gives_another_name(source: str, functions: str, principal: Principal, access: str) -> None:
    assert stream_name(source, functions, principal, access) != stream_name(SOURCE, "f1", ADA, "all")


def test_what_a_caller_is_called_and_by_which_roles_they_see_it_is_no_matter() -> None:
    renamed = Principal("north", "ada", "Ada L.", frozenset({"nurse"}), expires_at=7)
    assert stream_name(SOURCE, "f1", renamed, "all") == stream_name(SOURCE, "f1", ADA, "all")


def test_a_name_says_nothing_of_the_caller() -> None:
    name = stream_name(SOURCE, "f1", ADA, "all")
    assert name == stream_name(SOURCE, "f1", ADA, "all")
    assert "ada" not in name
    assert "north" not in name


def test_positions_compare_within_one_history_only() -> None:
    name = stream_name(SOURCE, "f1", ADA, "all")
    assert same_history(name, SOURCE)
    assert same_history(name, "listen-7380-1-16384"), "the same commits in the same order, at other places nearby"
    assert not same_history(name, "wal-7380-2-16384")
    assert not same_history(name, "wal-99-1-16384")
    assert same_history(None, SOURCE)
