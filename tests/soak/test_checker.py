"""The checker finds what is wrong: each test falsifies a good journal in one way, and says what must be found."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from soak.checker import Done, check
from soak.history import Committed, History
from soak.journal import Answer, Claim, Complaint, Connection, Final, Journal, Mutation, Step
from soak.queries import Change
from soak.rows import Key, Result, args_text

STALE_AFTER, SLACK = 1.5, 0.5
BOARD = Key("default", "slips.list", args_text({"patientId": "ada", "limit": 3}))
OTHER = Key("default", "slips.list", args_text({"patientId": "ben", "limit": 3}))
TOTALS = Key("default", "slips.totals", args_text({}))
ID = "m-1"


def slip(id: str, patient: str, rank: int, title: str = "call back") -> Change:
    """A slip written, or moved, or given another rank."""
    resource = {
        "status": "requested",
        "for": {"reference": f"Patient/{patient}"},
        "code": {"text": "call"},
        "description": title,
        "restriction": {"repetitions": rank},
    }
    return Change("Task", "default", id, 7, datetime(2026, 1, 1, tzinfo=UTC), resource)


def gone(id: str) -> Change:
    return Change("Task", "default", id, 8, datetime(2026, 1, 1, tzinfo=UTC), None)


def the_history() -> History:
    """Five commits, at 10, 20, 30, 40 and 50 seconds and positions 100 to 500; each has its outbox place 5 before."""
    changes = [
        [slip("a", "ada", 5)],
        [slip("b", "ada", 3), slip("c", "ben", 3)],
        [slip("a", "ben", 5)],
        [slip("d", "ada", 9, ID)],
        [gone("b"), slip("e", "ada", 1)],
    ]
    commits = [
        Committed(number, 100 * number, 100 * number - 5, 10.0 * number, made, [("default", ID)] if number == 4 else [])
        for number, made in enumerate(changes, start=1)
    ]
    return History([slip("0", "ada", 7)], commits, [BOARD, OTHER, TOTALS])


HISTORY = the_history()
DONE = {("default", ID): [Done(3, (3,))]}


def right(key: Key, commit: int) -> Result:
    return HISTORY.versions[key].after(commit)


def good_journal() -> Journal:
    """A client that saw each commit a moment after it was made, and did the mutation of the fourth."""
    steps = [Step(5.0, 50, {key: right(key, -1) for key in (BOARD, OTHER, TOTALS)})]
    claims = [Claim(5.0, 50, True)]
    for number, commit in enumerate(HISTORY.commits):
        changed: dict[Key, Result | None] = {
            key: right(key, number) for key in (BOARD, OTHER, TOTALS) if right(key, number) != right(key, number - 1)
        }
        steps.append(Step(commit.at + 0.1, commit.position, changed))
        claims.append(Claim(commit.at + 0.1, commit.position, True))
        steps.append(Step(commit.at + 5.0, commit.position + 50, {}))
        claims.append(Claim(commit.at + 5.0, commit.position + 50, True))
    claims.append(Claim(56.0, 550, False))
    answer = Answer(40.2, "one", "committed", "wal", 400, {"id": "d"})
    final = Final("wal", 550, {key: right(key, 4) for key in (BOARD, OTHER, TOTALS)})
    return Journal(
        [Connection("one", 1, 0, "wal", 40, 50, steps, claims)],
        {ID: Mutation(ID, "default", 1, 39.0, [answer])},
        final={"one": final},
    )


def verdict(journal: Journal, done: dict[tuple[str, str], list[Done]] | None = None) -> list[tuple[str, str]]:
    found = check(journal, HISTORY, DONE if done is None else done, stale_after=STALE_AFTER, slack=SLACK)
    return [(violation.promise, violation.kind) for violation in found]


def test_a_good_journal_is_found_good() -> None:
    assert verdict(good_journal()) == []


def test_what_is_done_after_all_was_quiet_need_not_be_held() -> None:
    """A mutation was under way when its writer stopped."""
    journal = good_journal()
    journal.final["one"] = Final("wal", HISTORY.commits[4].position - 1, {BOARD: right(BOARD, 3)})
    assert right(BOARD, 3) != right(BOARD, 4)
    assert verdict(journal) == []


def test_a_reader_of_the_outbox_has_its_own_positions() -> None:
    journal = good_journal()
    connection = journal.connections[0]
    connection.source = "listen"
    # Between its outbox place and its end in the WAL, a commit is there for the one and not for the other.
    connection.steps[1] = replace(connection.steps[1], position=96)
    assert verdict(journal) == []
    connection.source = "wal"
    assert verdict(journal) == [("L2/L3", "torn, early")]


def change_step(journal: Journal, number: int, **fields: object) -> None:
    steps = journal.connections[0].steps
    steps[number] = replace(steps[number], **fields)  # type: ignore[arg-type]  # fields of a step


def lose_a_patch(journal: Journal) -> None:
    """The third commit never comes to any of the queries."""
    change_step(journal, 5, changed={})


def lose_the_last(journal: Journal) -> None:
    """The last commit does not come, and the connection says that all is well."""
    change_step(journal, 9, changed={})
    change_step(journal, 10, changed={})


def tear(journal: Journal) -> None:
    """Half of the second commit is shown."""
    change_step(journal, 3, changed={BOARD: right(BOARD, 1), TOTALS: right(TOTALS, 1)})


def tear_ahead(journal: Journal) -> None:
    """One query is shown a commit too early."""
    change_step(journal, 3, changed={BOARD: right(BOARD, 1), OTHER: right(OTHER, 2), TOTALS: right(TOTALS, 1)})


def double(journal: Journal) -> None:
    """A row is there twice."""
    rows = right(BOARD, 3)
    change_step(journal, 7, changed={BOARD: (rows[0], *rows), TOTALS: right(TOTALS, 3)})


def reorder(journal: Journal) -> None:
    change_step(journal, 7, changed={BOARD: right(BOARD, 3)[::-1], TOTALS: right(TOTALS, 3)})


def make_up(journal: Journal) -> None:
    """A row that never was."""
    change_step(journal, 7, changed={BOARD: (*right(BOARD, 3)[:-1], "z#0"), TOTALS: right(TOTALS, 3)})


def go_back(journal: Journal) -> None:
    """A transition at an earlier position than the one before."""
    change_step(journal, 4, position=190, changed={})


def go_back_on_return(journal: Journal) -> None:
    journal.connections[0].said = 60
    change_step(journal, 0, how="subscribed")


def pose_as_fresh(journal: Journal) -> None:
    """The fourth commit comes after six seconds, in which the old data are shown as live."""
    connection = journal.connections[0]
    connection.steps[7] = replace(connection.steps[7], at=46.0)
    connection.claims[7] = replace(connection.claims[7], at=46.0)
    connection.steps[8] = replace(connection.steps[8], at=46.5)
    connection.claims[8] = replace(connection.claims[8], at=46.5)


def answer_early(journal: Journal) -> None:
    """The mutation is said to be at a position before its commit."""
    mutation = journal.mutations[ID]
    mutation.answers[0] = replace(mutation.answers[0], position=399)


def answer_twice(journal: Journal) -> None:
    mutation = journal.mutations[ID]
    mutation.answers.append(replace(mutation.answers[0], value={"id": "e"}))


def refuse_what_is_done(journal: Journal) -> None:
    journal.mutations[ID].answers[0] = Answer(40.2, "one", "refused", "wal", code="not_found", next="stop")


def refuse_for_trouble(journal: Journal) -> None:
    journal.mutations["m-2"] = Mutation(
        "m-2", "default", 1, 39.0, [Answer(40.0, "one", "refused", "wal", code="internal", next="stop")]
    )


def complain(journal: Journal) -> None:
    journal.complaints.append(Complaint(20.0, "one", "disagreed", "a row is put behind the end"))


def end_without_all(journal: Journal) -> None:
    journal.final["one"] = Final("wal", 550, {BOARD: right(BOARD, 3)})


def end_without_life(journal: Journal) -> None:
    journal.final["one"] = "not connected"


@pytest.mark.parametrize(
    ("falsify", "expected"),
    [
        (lose_a_patch, ("L2/L3", "lost")),
        (lose_the_last, ("L2/L3", "torn, lost")),
        (tear, ("L2/L3", "torn, lost")),
        (tear_ahead, ("L2/L3", "torn, early")),
        (double, ("L2/L3", "doubled")),
        (reorder, ("L2/L3", "reordered")),
        (make_up, ("L2/L3", "wrong")),
        (go_back, ("L1", "out of order")),
        (go_back_on_return, ("L7", "taken back")),
        (pose_as_fresh, ("L4", "stale posing as live")),
        (answer_early, ("L5", "position too early")),
        (answer_twice, ("L6", "two answers")),
        (refuse_what_is_done, ("L6", "refused, yet done")),
        (refuse_for_trouble, ("-", "refused")),
        (complain, ("-", "disagreed")),
        (end_without_all, ("L3", "lost")),
        (end_without_life, ("L4", "never live again")),
    ],
)
def test_a_falsified_journal_is_found_out(falsify: Callable[[Journal], None], expected: tuple[str, str]) -> None:
    journal = good_journal()
    falsify(journal)
    assert expected in verdict(journal)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ({}, ("L6", "not there")),
        ({("default", ID): [Done(3, (3,)), Done(4, (3,))]}, ("L6", "applied twice")),
        ({("default", ID): [Done(3, (3, 3))]}, ("L6", "applied twice")),
        ({("default", ID): [Done(3, (2,))]}, ("L6", "half applied")),
        ({("default", ID): [Done(3, ())]}, ("L6", "half applied")),
    ],
)
def test_a_mutation_is_done_once_or_found_out(
    done: dict[tuple[str, str], list[Done]], expected: tuple[str, str]
) -> None:
    assert verdict(good_journal(), done) == [expected]


def test_a_welcome_shows_nothing() -> None:
    journal = good_journal()
    journal.connections[0].said = 60
    assert verdict(journal) == []


def test_old_data_shown_as_stale_are_no_lie() -> None:
    journal = good_journal()
    pose_as_fresh(journal)
    claims = journal.connections[0].claims
    claims.insert(7, Claim(41.0, 350, False))
    assert verdict(journal) == []


def test_a_network_that_holds_bytes_back_is_nobodys_lie() -> None:
    journal = good_journal()
    pose_as_fresh(journal)
    journal.connections[0].slowed_at = 39.0
    assert verdict(journal) == []


def test_an_outbox_that_contradicts_the_wal_is_found_out() -> None:
    commits = [replace(HISTORY.commits[0], outbox=196), *HISTORY.commits[1:]]
    history = History([slip("0", "ada", 7)], commits, [BOARD, OTHER, TOTALS])
    found = check(Journal(), history, {}, stale_after=STALE_AFTER, slack=SLACK)
    assert [violation.kind for violation in found] == ["out of order"]


def test_what_is_let_go_of_is_no_longer_compared() -> None:
    journal = good_journal()
    lose_a_patch(journal)
    journal.connections[0].steps.insert(5, Step(30.0, 250, {BOARD: None, OTHER: None, TOTALS: None}))
    change_step(journal, 8, changed={})
    change_step(journal, 10, changed={})
    journal.final.clear()
    assert verdict(journal) == []
