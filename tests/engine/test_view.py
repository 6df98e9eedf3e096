"""A window against the plain truth: sort everything, cut, compare."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from bonfire.engine.commit import RowChange
from bonfire.engine.ordering import Ordering
from bonfire.engine.view import Change, Window, difference, slack

Table = dict[str, dict[str, Any]]

ORDER = (("n", True), ("name", False))


def row_json(row: dict[str, Any]) -> Raw:
    return Raw(json.dumps(row).encode())


def truth(table: Table, limit: int) -> list[bytes]:
    ordering = Ordering(ORDER)
    rows = sorted((row_json(row) for row in table.values()), key=lambda raw: ordering.sort_key(raw)[1])
    return [bytes(raw) for raw in rows[:limit]]


def applied(shown: list[tuple[str, bytes]], change: Change) -> list[tuple[str, bytes]]:
    """What a client does with a patch, by the protocol's words."""
    puts = [(put.at, json.loads(bytes(put.row))["id"], bytes(put.row)) for put in change.put]
    gone = {*change.remove, *(row_id for _, row_id, _ in puts)}
    rows = [row for row in shown if row[0] not in gone]
    for at, row_id, raw in puts:
        rows.insert(at, (row_id, raw))
    return rows


ids = st.sampled_from([f"r{number}" for number in range(40)])
values = st.one_of(st.none(), st.integers(0, 5), st.decimals(0, 3, places=1).map(float))
names = st.one_of(st.none(), st.sampled_from(["a", "b", "Ä", "\U0001f600", "B"]))
change = st.tuples(ids, st.booleans(), values, names)


@settings(max_examples=400, deadline=None)
@given(
    start=st.lists(change, max_size=60),
    commits=st.lists(st.lists(change, min_size=1, max_size=6), max_size=25),
    limit=st.integers(1, 8),
)
def test_patches_lead_to_what_sorting_everything_gives(
    start: list[tuple[str, bool, Any, Any]], commits: list[list[tuple[str, bool, Any, Any]]], limit: int
) -> None:
    table: Table = {row_id: {"id": row_id, "n": n, "name": name} for row_id, _, n, name in start}

    def read() -> Window:
        asked = limit + slack(limit) + 1
        rows = [Raw(raw) for raw in truth(table, asked)]
        return Window(Ordering(ORDER), limit, rows, complete=len(rows) < asked)

    window = read()
    shown = [(row_id, bytes(raw)) for row_id, raw in window.shown()]
    for commit in commits:
        changes = []
        for row_id, gone, n, name in commit:
            if gone:
                table.pop(row_id, None)
                changes.append(RowChange("k", row_id, None, Raw(b"null")))
            else:
                table[row_id] = {"id": row_id, "n": n, "name": name}
                changes.append(RowChange("k", row_id, None, row_json(table[row_id])))
        shown = applied(shown, window.apply(changes))
        assert [(row_id, bytes(raw)) for row_id, raw in window.shown()] == shown
        if window.short:
            window = read()
            shown = [(row_id, bytes(raw)) for row_id, raw in window.shown()]
        assert [raw for _, raw in shown] == truth(table, limit)
        assert window.more == (len(table) > limit)


@given(
    old=st.lists(st.tuples(ids, st.integers(0, 3)), max_size=12),
    new=st.lists(st.tuples(ids, st.integers(0, 3)), max_size=12),
)
def test_difference_is_right_or_says_that_it_cannot(old: list[tuple[str, int]], new: list[tuple[str, int]]) -> None:
    before = [(row_id, row_json({"id": row_id, "n": n})) for row_id, n in old]
    after = [(row_id, row_json({"id": row_id, "n": n})) for row_id, n in new]
    found = difference(before, after)
    if found is not None:
        start = [(row_id, bytes(raw)) for row_id, raw in before]
        assert applied(start, found) == [(row_id, bytes(raw)) for row_id, raw in after]


def test_difference_names_one_changed_row() -> None:
    before = [(f"r{n}", row_json({"id": f"r{n}", "n": 0})) for n in range(100)]
    after = [*before[:50], ("r50", row_json({"id": "r50", "n": 1})), *before[51:]]
    found = difference(before, after)
    assert found is not None
    assert (found.remove, [put.at for put in found.put]) == ([], [50])


def test_a_row_behind_the_window_is_no_change() -> None:
    rows = [row_json({"id": f"r{n}", "n": 100 - n, "name": None}) for n in range(5)]
    window = Window(Ordering(ORDER), 2, rows, complete=True)
    assert not window.apply([RowChange("k", "r4", None, row_json({"id": "r4", "n": 1, "name": "x"}))])


def test_a_window_that_shrinks_to_all_there_is_does_not_say_that_there_is_more() -> None:
    limit = 2
    asked = limit + slack(limit) + 1
    rows = [row_json({"id": f"r{n:02}", "n": 100 - n, "name": None}) for n in range(asked)]
    window = Window(Ordering(ORDER), limit, rows, complete=False)
    for n in range(asked - limit):
        assert window.more
        assert not window.short
        window.apply([RowChange("k", f"r{n:02}", None, Raw(b"null"))])
    assert window.short, "whether there are others behind these is not known: they must be read"


def test_a_row_behind_what_is_held_is_not_taken_for_the_next_one() -> None:
    rows = [row_json({"id": f"r{n:02}", "n": 100 - n, "name": None}) for n in range(1 + slack(1) + 1)]
    window = Window(Ordering(ORDER), 1, rows, complete=False)
    window.apply([RowChange("k", "last", None, row_json({"id": "last", "n": 0, "name": None}))])
    for n in range(len(rows) - 1):
        window.apply([RowChange("k", f"r{n:02}", None, Raw(b"null"))])
    assert window.short
    assert [row_id for row_id, _ in window.shown()] == [f"r{len(rows) - 1:02}"]


def test_rows_that_a_large_commit_pushes_out_are_named() -> None:
    limit = 2
    shown = [row_json({"id": f"old{n}", "n": 0, "name": None}) for n in range(limit)]
    window = Window(Ordering(ORDER), limit, shown, complete=True)
    many = limit + 2 * slack(limit) + 5
    news = [row_json({"id": f"new{n}", "n": 9, "name": None}) for n in range(many)]
    change = window.apply([RowChange("k", f"new{n}", None, row) for n, row in enumerate(news)])
    assert sorted(change.remove) == ["old0", "old1"]
    assert len(change.put) == limit
    assert not window.complete
