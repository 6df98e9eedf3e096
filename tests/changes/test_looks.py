"""What a standby's snapshot saw, by positions alone."""

import random

import pytest

from bonfire.changes.looks import REMEMBERED, Look, Looks
from bonfire.engine.visibility import Cut, Visibility

ALL = (0, 2**60)
"""As ids tell nothing: all of them may be running."""


def look(before: int, after: int, *, idle: bool = True, ids: tuple[int, int] = ALL) -> Look:
    return Look(before, after, idle, *ids)


def looks(*commits: tuple[int, int] | tuple[int, int, int], position: int = 10_000) -> Looks:
    """Commits from where to where, and perhaps whose."""
    made = Looks(100)
    for start, end, *xid in commits:
        made.note(start, end, xid[0] if xid else 7)
    made.advance(position)
    return made


def test_a_moment_between_two_commits_is_known() -> None:
    assert looks((200, 250), (900, 950)).cut(look(300, 400), 10_000) == Cut(400)
    assert looks((200, 250), (900, 950)).cut(look(250, 800, idle=False), 10_000) == Cut(800)


@pytest.mark.parametrize("idle", [True, False])
def test_a_commit_that_was_replayed_meanwhile_leaves_it_open(idle: bool) -> None:
    assert looks((200, 250), (320, 380)).cut(look(300, 400, idle=idle), 10_000) is None
    assert looks((320, 400)).cut(look(300, 400, idle=idle), 10_000) is None


def test_the_record_that_was_being_replayed_may_have_been_seen() -> None:
    next_one = (400, 480)
    assert looks(next_one).cut(look(300, 400, idle=False), 10_000) is None
    assert looks(next_one).cut(look(300, 400), 10_000) == Cut(400)
    behind_a_page_header = (440, 480)
    assert looks(behind_a_page_header).cut(look(300, 400, idle=False), 10_000) is None
    one_later = (448, 520)
    assert looks(one_later).cut(look(300, 400, idle=False), 10_000) == Cut(400)


def test_ids_tell_of_most_that_were_replayed_meanwhile() -> None:
    meanwhile = looks((310, 320, 7), (330, 340, 5), (350, 360, 9), (370, 380, 6))
    # 5 was seen, and so was what lies before it; 9 was not, nor what lies behind it.
    assert meanwhile.cut(look(300, 400, ids=(6, 9)), 10_000) == Cut(340)
    assert meanwhile.cut(look(300, 400, ids=(10, 10)), 10_000) == Cut(400)
    assert meanwhile.cut(look(300, 400, ids=(5, 7)), 10_000) == Cut(300)
    # Of 9 nobody knows; of 7 neither.
    assert meanwhile.cut(look(300, 400, ids=(6, 10)), 10_000) is None
    assert meanwhile.cut(look(300, 400, ids=(5, 8)), 10_000) is None


def test_the_record_that_was_being_replayed_and_was_seen_is_a_part_of_it() -> None:
    assert looks((400, 480, 5)).cut(look(300, 400, idle=False, ids=(6, 6)), 10_000) == Cut(480)
    assert looks((400, 480, 6)).cut(look(300, 400, idle=False, ids=(6, 6)), 10_000) == Cut(300)


def test_where_no_commit_lies_between_what_is_told_is_as_good() -> None:
    """The engine is at what the sink was told, and never waits for a word that a lagging stream does not give."""
    assert looks((200, 250)).cut(look(300, 400), 250) == Cut(250)


def test_a_look_older_than_what_is_remembered_is_not_judged() -> None:
    many = [(200 + 10 * n, 205 + 10 * n) for n in range(REMEMBERED + 1)]
    last = many[-1][1]
    assert looks(*many, position=last).cut(look(150, 150), last) is None
    assert looks(*many, position=last).cut(look(last, last), last) == Cut(last)


async def test_whoever_waits_hears_when_the_stream_has_come_so_far() -> None:
    made = Looks(100)
    busy, idle = made.passed(look(90, 120, idle=False)), made.passed(look(90, 120))
    assert made.passed(look(90, 100)).done()
    made.advance(120)
    assert (idle.done(), busy.done()) == (True, False)
    given_up = made.passed(look(90, 300))
    given_up.cancel()
    made.advance(121)
    assert busy.done()


@pytest.mark.parametrize("spread", [0, 1, 3, 8])
def test_whatever_is_known_is_true(spread: int) -> None:
    """A replay, and a snapshot in the middle of it: the cut, where there is one, divides just what the snapshot saw
    from what it did not. `spread`: by how much ids are out of the order of their commits."""
    randomness = random.Random(spread)
    known = 0
    for _ in range(1000):
        # The log: records one behind the other, some of them commits.
        records: list[tuple[int, int, int | None]] = []
        end = 100
        for number in range(12):
            start = end + randomness.choice([0, 0, 0, 24, 40])
            end = start + randomness.randrange(8, 80, 8)
            ours = randomness.random() < 0.4
            records.append((start, end, 2 * number + 1000 if ours else None))
        ids = [xid for _, _, xid in records if xid is not None]
        for place in range(len(ids)):
            other = min(len(ids) - 1, place + randomness.randint(0, spread))
            ids[place], ids[other] = ids[other], ids[place]
        left = iter(ids)
        records = [(start, at, None if xid is None else next(left)) for start, at, xid in records]
        # The replay is behind `done` records when the snapshot is taken; the next one may be visible all the same.
        done = randomness.randrange(1, 10)
        visible = done + randomness.choice([0, 1])
        before = records[max(1, done - randomness.randrange(3)) - 1][1]
        later = done + randomness.choice([0, 0, 1, 2])
        idle = later >= visible and randomness.random() < 0.5
        finished = [xid for _, _, xid in records[:visible] if xid is not None]
        xmax = max(finished, default=1000) + 1
        # Somebody else's transaction may be the oldest.
        running = [xid for _, _, xid in records[visible:] if xid is not None and xid < xmax]
        xmin = min([*running, xmax, *([1000] if randomness.random() < 0.3 else [])])
        made = looks(*((s, e, xid) for s, e, xid in records if xid is not None), position=end)
        cut = made.cut(look(before, records[later - 1][1], idle=idle, ids=(xmin, xmax)), end)
        if cut is not None:
            known += 1
            for number, (_, at, xid) in enumerate(records):
                if xid is not None:
                    assert cut.includes(xid, at) == (number < visible)
    assert known > 500


def test_a_snapshot_of_a_primary_goes_by_ids() -> None:
    seen = Visibility(5, 9, frozenset({7}))
    assert [seen.includes(xid, 0) for xid in (4, 6, 7, 9)] == [True, True, False, False]
