"""A commit that can't be read holds up what comes after it until snapshots show it."""

import pytest

from bonfire.changes.gate import Gate
from bonfire.engine.commit import Commit, Message
from bonfire.engine.visibility import Visibility
from support.changes import Recorder


def commit(position: int, xid: int) -> Commit:
    return Commit(position, xid, [Message(tenant=str(xid))])


def all_but(*running: int) -> Visibility:
    return Visibility(min(running, default=100), 100, frozenset(running))


@pytest.fixture
async def told() -> Recorder:
    return Recorder()


def words(told: Recorder) -> list[object]:
    return [what.xid if isinstance(what, Commit) else kind for kind, what in told.events]


async def test_open_it_passes_everything_on(told: Recorder) -> None:
    gate = Gate(told)
    gate.commit(commit(10, 1))
    gate.watermark(20, 0.0)
    gate.look(all_but(1))
    assert words(told) == [1, "watermark"]


async def test_closed_it_waits_for_a_snapshot_that_shows_all(told: Recorder) -> None:
    gate = Gate(told)
    gate.commit(commit(10, 1))
    gate.lose(20, 2, "unreadable")
    gate.commit(commit(30, 3))
    gate.watermark(40, 0.0)
    assert gate.closed
    assert words(told) == [1, "down", "gap"]
    gate.look(all_but(2))
    # The one before it was delivered, and a read that misses it now would miss it too.
    gate.lose(20, 2, "unreadable")
    gate.look(all_but(1, 3))
    assert told.seen("up") == 0
    gate.commit(commit(50, 4))
    gate.look(all_but(4))
    assert words(told) == [1, "down", "gap", "gap", "up", 4]
    assert told.position == 50


async def test_what_comes_meanwhile_is_delivered_afterwards_in_order(told: Recorder) -> None:
    gate = Gate(told)
    gate.lose(20, 2, "unreadable")
    gate.commit(commit(30, 3))
    gate.commit(commit(40, 5))
    gate.look(all_but(3, 5))
    assert words(told) == ["down", "gap", "up", 3, 5]


async def test_what_no_transaction_said_waits_for_those_before_it(told: Recorder) -> None:
    gate = Gate(told)
    gate.lose(20, None, "outside of any transaction")
    gate.look(all_but())
    assert words(told) == ["down", "gap", "up"]


async def test_where_what_is_delivered_is_visible_nothing_is_waited_for(told: Recorder) -> None:
    gate = Gate(told)
    gate.lose(20, 2, "unreadable")
    gate.look(None)
    assert words(told) == ["down", "gap", "up"]


async def test_what_comes_while_it_is_behind_is_let_go(told: Recorder) -> None:
    gate = Gate(told)
    gate.fall_behind()
    gate.say_behind()
    gate.say_behind()
    gate.commit(commit(10, 1))
    gate.lose(20, 2, "unreadable")
    assert words(told) == ["down"]
    gate.catch_up(30)
    gate.commit(commit(40, 3))
    assert words(told) == ["down", "gap", "up", 3]
