"""The soak's client takes frames as the protocol's vectors say."""

import json
from typing import Any

import msgspec
import pytest

from bonfire_protocol.codec import decode_down
from bonfire_protocol.down import Access, Patch, Resumed, Snapshot, Subscribed, Transition, Unsubscribed, Watermark
from protocol.vectors import load, name_of
from soak.holding import Disagreement, Holding
from soak.rows import MORE, Key, Result, row_text

KEY = Key("default", "slips.list", "{}")


def holding(rows: list[dict[str, Any]], first: str | None) -> Holding:
    """One that holds `rows`: from this connection, or, where it is about to be resumed, from the one before."""
    texts = tuple(row_text(row) for row in rows)
    if first == "resumed":
        return Holding(keys={"s1": KEY}, kept={KEY: texts})
    return Holding(keys={"s1": KEY}, numbers={"s1": 1}, rows={1: texts})


@pytest.mark.parametrize("case", load("transitions"), ids=name_of)
def test_transition(case: dict[str, Any]) -> None:
    parts = [decode_down(msgspec.json.encode(part)) for part in case["parts"]]
    held = holding(case["rows"], case["parts"][0]["type"] if case["parts"] else None)
    shown: Result | None
    for part in parts:
        assert isinstance(part, Subscribed | Resumed | Snapshot | Patch)
        if isinstance(part, Subscribed | Resumed):
            held.keys[part.id] = KEY
        held.take(part)
    try:
        held.transition()
        shown = held.results()[KEY]
    except Disagreement:
        shown = None
    expected = case["result"]
    assert shown == (None if expected is None else (*map(row_text, expected), *([MORE] if case["more"] else [])))


@pytest.mark.parametrize("case", load("access"), ids=name_of)
def test_access(case: dict[str, Any]) -> None:
    subscriptions = {id: (held["query"], held["rows"]) for id, held in case["subscriptions"].items()}
    keys = {id: Key("default", "slips.list", id) for id in subscriptions}
    held = Holding(
        keys=dict(keys),
        numbers={id: number for id, (number, _) in subscriptions.items()},
        rows={number: tuple(map(row_text, rows)) for number, rows in subscriptions.values()},
    )
    for spelled in case["frames"]:
        match frame := decode_down(msgspec.json.encode(spelled)):
            case Subscribed() | Patch():
                held.take(frame)
            case Transition():
                held.transition()
            case Unsubscribed():
                held.let_go(frame.id)
            case _:
                assert isinstance(frame, Access | Watermark), "these say nothing of rows"
    assert held.results() == {keys[id]: tuple(map(row_text, rows)) for id, rows in case["shown"].items()}
    assert held.rows.keys() == set(held.numbers.values())


def test_nothing_is_held_before_the_transition() -> None:
    held = holding([], None)
    held.take(Snapshot(1, [msgspec.Raw(json.dumps({"id": "a"}).encode())], "changed"))
    assert held.results() == {KEY: ()}
    assert held.transition() == held.results() == {KEY: (row_text({"id": "a"}),)}


def test_what_was_let_go_of_stays_away() -> None:
    """Also when a part of it was under way."""
    held = holding([{"id": "a"}], None)
    held.take(Patch(1, remove=["a"]))
    assert held.let_go("s1") == KEY
    assert held.transition() == held.results() == {}


def test_a_second_subscription_under_way_holds_nothing_yet() -> None:
    held = holding([{"id": "a"}], None)
    held.keys["s2"] = KEY
    assert held.let_go("s1") == KEY
    assert held.results() == {}


def test_two_subscriptions_to_one_query_hold_it_until_both_are_over() -> None:
    held = holding([{"id": "a"}], None)
    held.keys["s2"] = KEY
    held.numbers["s2"] = 1
    assert held.let_go("s1") is None
    assert held.results() == {KEY: (row_text({"id": "a"}),)}
    assert held.let_go("s2") == KEY
