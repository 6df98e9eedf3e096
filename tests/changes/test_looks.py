"""What a standby's snapshot saw, by positions alone."""

import asyncio
import random

import pytest

from bonfire.changes.looks import REMEMBERED, Look, Looks
from bonfire.engine.visibility import Cut, Visibility


def looks(*commits: tuple[int, int], position: int = 10_000) -> Looks:
    made = Looks(100)
    for start, end in commits:
        made.note(start, end)
    made.advance(position)
    return made


def test_a_moment_between_two_commits_is_known() -> None:
    assert looks((200, 250), (900, 950)).cut(Look(300, 400, True), 10_000) == Cut(400)
    assert looks((200, 250), (900, 950)).cut(Look(250, 800, False), 10_000) == Cut(800)


@pytest.mark.parametrize("idle", [True, False])
def test_a_commit_that_was_replayed_meanwhile_leaves_it_open(idle: bool) -> None:
    assert looks((200, 250), (320, 380)).cut(Look(300, 400, idle), 10_000) is None
    assert looks((320, 400)).cut(Look(300, 400, idle), 10_000) is None


def test_the_record_that_was_being_replayed_may_have_been_seen() -> None:
    next_one = (400, 480)
    assert looks(next_one).cut(Look(300, 400, idle=False), 10_000) is None
    assert looks(next_one).cut(Look(300, 400, idle=True), 10_000) == Cut(400)
    behind_a_page_header = (440, 480)
    assert looks(behind_a_page_header).cut(Look(300, 400, idle=False), 10_000) is None
    one_later = (448, 520)
    assert looks(one_later).cut(Look(300, 400, idle=False), 10_000) == Cut(400)


def test_where_no_commit_lies_between_what_is_told_is_as_good() -> None:
    """The engine is at what the sink was told, and never waits for a word that a lagging stream does not give."""
    assert looks((200, 250)).cut(Look(300, 400, True), 250) == Cut(250)


def test_a_look_older_than_what_is_remembered_is_not_judged() -> None:
    many = [(200 + 10 * n, 205 + 10 * n) for n in range(REMEMBERED + 1)]
    last = many[-1][1]
    assert looks(*many, position=last).cut(Look(150, 150, True), last) is None
    assert looks(*many, position=last).cut(Look(last, last, True), last) == Cut(last)


async def test_whoever_waits_hears_when_the_stream_has_come_so_far() -> None:
    made = Looks(100)
    busy, idle = made.passed(Look(90, 120, False)), made.passed(Look(90, 120, True))
    assert made.passed(Look(90, 100, True)).done()
    made.advance(120)
    assert (idle.done(), busy.done()) == (True, False)
    given_up = made.passed(Look(90, 300, True))
    given_up.cancel()
    made.advance(121)
    assert busy.done()
    await asyncio.sleep(0)


def test_whatever_is_known_is_true() -> None:
    """A replay, and a snapshot in the middle of it: the cut, where there is one, divides just what the snapshot saw
    from what it did not."""
    randomness = random.Random(11)
    known = 0
    for _ in range(3000):
        # The log: records one behind the other, some of them commits.
        records: list[tuple[int, int, bool]] = []
        end = 100
        for _ in range(12):
            start = end + randomness.choice([0, 0, 0, 24, 40])
            end = start + randomness.randrange(8, 80, 8)
            records.append((start, end, randomness.random() < 0.4))
        # The replay is behind `done` records when the snapshot is taken; the next one may be visible all the same.
        done = randomness.randrange(1, 10)
        visible = done + randomness.choice([0, 1])
        before = records[max(1, done - randomness.randrange(3)) - 1][1]
        later = done + randomness.choice([0, 0, 1, 2])
        idle = later >= visible and randomness.random() < 0.5
        look = Look(before, records[later - 1][1], idle)
        made = looks(*((s, e) for s, e, commits in records if commits), position=end)
        cut = made.cut(look, end)
        if cut is not None:
            known += 1
            for number, (_, at, commits) in enumerate(records):
                if commits:
                    assert cut.includes(0, at) == (number < visible)
    assert known > 500


def test_a_snapshot_of_a_primary_goes_by_ids() -> None:
    seen = Visibility(5, 9, frozenset({7}))
    assert [seen.includes(xid, 0) for xid in (4, 6, 7, 9)] == [True, True, False, False]
