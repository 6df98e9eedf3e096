"""What the engine does with what makes no sense, one case each; the simulation holds the rest."""

from collections import Counter

import msgspec
import pytest
from msgspec import Raw

from bonfire.engine.commit import Commit, Message, RowChange, ViewChange
from bonfire.engine.frames import SharedFrame
from bonfire.engine.live import LiveEngine
from bonfire.engine.query import AppPlan, KeyedPlan, Plan, QueryIdentity
from bonfire.engine.reads import AT_ONCE, BATCH
from bonfire.engine.rota import SHARES
from bonfire.engine.session import Session
from bonfire.engine.telling import KEPT_SNAPSHOTS
from bonfire.engine.visibility import Visibility
from bonfire_protocol.down import DownFrame, Patch, Snapshot, Subscribed, Transition, Unsubscribed, Watermark
from bonfire_protocol.faults import Fault, FaultCode

EVERYTHING = Visibility(1 << 40, 1 << 40, frozenset())
NOTHING_NEW = Visibility(50, 50, frozenset())
KEYED = KeyedPlan("view", "a", 1, (("n", False),))
APP = AppPlan((("S", None),), "one", identified=False)


def subscribe(engine: LiveEngine, session: Session, name: str, plan: Plan) -> None:
    engine.subscribe(session, name, QueryIdentity("t", type(plan).__name__, b"{}", "all"), plan)


def read(engine: LiveEngine, *answers: list[Raw] | Fault, visibility: Visibility = EVERYTHING) -> None:
    wanted = engine.next_read()
    assert wanted is not None
    engine.landed(wanted.ticket, visibility, engine.position, list(answers))


def row(id: str, n: object) -> Raw:
    return Raw(msgspec.json.encode({"id": id, "n": n}))


def told(engine: LiveEngine, session: Session) -> list[DownFrame]:
    return [
        shared.frame
        for outgoing in engine.take_outgoing()
        if session in outgoing.audience.sessions
        for shared in outgoing.frames
    ]


def change(position: int, raw: Raw, *, key: str = "a", id: str = "r") -> Commit:
    return Commit(position, position, [Message("t", "V", [], [ViewChange("view", [RowChange(key, id, None, raw)])])])


@pytest.fixture
def engine() -> LiveEngine:
    return LiveEngine(100)


@pytest.mark.parametrize("raw", [Raw(b"{}"), Raw(b'{"id":"r","n":"NaN"}'), Raw(b"{")])
def test_a_row_that_makes_no_sense_ends_its_own_query_only(engine: LiveEngine, raw: Raw) -> None:
    session, other = engine.join(object(), "t"), engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    engine.subscribe(other, "o", QueryIdentity("t", "other", b"{}", "all"), KeyedPlan("view", "b", 1, KEYED.order))
    read(engine, [row("x", 5)], [])
    engine.take_outgoing()
    broken = ViewChange("view", [RowChange("a", "r", None, raw), RowChange("b", "y", None, row("y", 1))])
    engine.commit(Commit(200, 200, [Message("t", "V", [], [broken])]))
    frames = told(engine, session)
    assert [type(frame) for frame in frames] == [Unsubscribed]
    assert isinstance(frames[0], Unsubscribed)
    assert frames[0].code is FaultCode.query_failed
    assert engine.counts["live_queries"] == 1


def test_its_neighbour_gets_the_commit(engine: LiveEngine) -> None:
    other = engine.join(object(), "t")
    broken = engine.join(object(), "t")
    subscribe(engine, broken, "s", KEYED)
    engine.subscribe(other, "o", QueryIdentity("t", "other", b"{}", "all"), KeyedPlan("view", "b", 1, KEYED.order))
    read(engine, [row("x", 5)], [])
    engine.take_outgoing()
    rows = [RowChange("a", "r", None, Raw(b"{}")), RowChange("b", "y", None, row("y", 1))]
    engine.commit(Commit(200, 200, [Message("t", "V", [], [ViewChange("view", rows)])]))
    assert [type(frame) for frame in told(engine, other)] == [Patch, Transition]


def test_an_answer_that_makes_no_sense_holds_nobody_up(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    subscribe(engine, session, "t", APP)
    read(engine, [Raw(b"{}")], [Raw(b"1")])
    assert [type(frame) for frame in told(engine, session)] == [Unsubscribed, Subscribed, Transition]


def test_a_row_behind_the_window_changes_whether_there_is_more(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    read(engine, [row("x", 5)])
    engine.take_outgoing()
    engine.commit(change(200, row("r", 9)))
    patch, _ = told(engine, session)
    assert isinstance(patch, Patch)
    assert (patch.remove, patch.put, patch.more) == ([], [], True)


def test_a_held_subscribed_does_not_come_after_the_querys_end(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "slow", APP)
    read(engine, [Raw(b"1")])
    engine.take_outgoing()
    engine.commit(Commit(200, 200, [Message("t", "S", [])]))
    subscribe(engine, session, "s", KEYED)
    slow = engine.next_read()
    assert slow is not None
    assert len(slow.wanted) == 2
    engine.landed(slow.ticket, NOTHING_NEW, 200, [[Raw(b"1")], [row("x", 5)]])
    assert told(engine, session) == []
    # The keyed query is live now, held back with the session; then its rows are lost.
    engine.commit(change(300, Raw(b"{}")))
    assert [type(frame) for frame in told(engine, session)] == [Unsubscribed]
    read(engine, [Raw(b"2")])
    assert Subscribed not in [type(frame) for frame in told(engine, session)]


def test_two_names_of_a_query_end_with_nothing_shown_between(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "k", KEYED)
    subscribe(engine, session, "one", APP)
    subscribe(engine, session, "two", APP)
    read(engine, [row("x", 5)], [Raw(b"1")])
    engine.take_outgoing()
    engine.commit(Commit(200, 200, [Message("t", "S", [])]))
    engine.commit(change(300, row("r", 1)))
    read(engine, Fault(FaultCode.query_failed, "it fails"))
    assert [type(frame) for frame in told(engine, session)] == [Unsubscribed, Unsubscribed, Patch, Transition]


def test_encoded_snapshots_are_bounded_whatever_the_names(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    read(engine, [row("x", 5)])
    for number in range(100):
        subscribe(engine, session, f"n{number}", KEYED)
    (query,) = set(session.subscriptions.values())
    assert len(query.snapshot_parts) <= KEPT_SNAPSHOTS


def test_one_name_is_encoded_once(engine: LiveEngine) -> None:
    first, second = engine.join(object(), "t"), engine.join(object(), "t")
    for session in (first, second):
        subscribe(engine, session, "s", KEYED)
    read(engine, [row("x", 5)])
    frames: list[SharedFrame] = [outgoing.frames[0] for outgoing in engine.take_outgoing()]
    assert len(frames) == 2
    assert frames[0] is frames[1]


def test_the_history_waits_for_a_read_that_is_no_live_querys(engine: LiveEngine) -> None:
    ticket = engine.look()
    engine.commit(change(200, row("r", 1)))
    later = engine.look()
    engine.seen(EVERYTHING)
    assert engine.looked(ticket, NOTHING_NEW) == 100
    assert engine.looked(later, NOTHING_NEW) == 199, "it did not see what had been told when it was asked for"
    engine.seen(EVERYTHING)
    assert engine.counts["recent_commits"] == 0


def test_a_read_over_a_gap_reflects_nothing_that_is_known(engine: LiveEngine) -> None:
    ticket = engine.look()
    engine.down("cut")
    engine.gap()
    engine.up(300)
    assert engine.looked(ticket, EVERYTHING) is None


def test_behind_a_cut_nothing_of_before_is_applied(engine: LiveEngine) -> None:
    """After a failover the same transaction ids may be given again: what was told before says nothing about them."""
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    read(engine, [])
    engine.commit(change(200, row("lost", 1)))
    engine.down("failover")
    engine.gap()
    engine.up(300)
    engine.take_outgoing()
    read(engine, [row("x", 5)], visibility=NOTHING_NEW)
    patch, _ = told(engine, session)
    assert isinstance(patch, Patch)
    assert (patch.remove, [put.row for put in patch.put]) == (["lost"], [row("x", 5)])


def test_a_query_that_changes_all_the_time_is_subscribed_all_the_same(engine: LiveEngine) -> None:
    """Each read is behind by a commit when it comes back: the client waits at one place, and the next read meets it."""
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", APP)
    shown: list[DownFrame] = []
    for xid in (200, 300, 400):
        wanted = engine.next_read()
        assert wanted is not None
        engine.commit(Commit(xid, xid, [Message("t", "S", [])]))
        engine.landed(wanted.ticket, Visibility(xid, xid, frozenset()), xid - 1, [[Raw(b"1")]])
        shown += told(engine, session)
    assert [type(frame) for frame in shown[:2]] == [Subscribed, Transition]


def test_a_rebuilt_read_model_is_read_afresh(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    read(engine, [row("x", 5)])
    engine.take_outgoing()
    engine.commit(Commit(200, 200, [Message(reset=["view"])]))
    read(engine, [row("x", 5)], visibility=NOTHING_NEW)
    assert told(engine, session) == [], "this read did not see the rebuild"
    read(engine, [row("y", 6)])
    patch, _ = told(engine, session)
    assert isinstance(patch, Patch)
    assert (patch.remove, [put.row for put in patch.put]) == (["x"], [row("y", 6)])


def test_a_rebuild_of_another_read_model_costs_nothing(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    read(engine, [row("x", 5)])
    engine.commit(Commit(200, 200, [Message(reset=["other"])]))
    assert engine.next_read() is None


def test_tenants_take_turns_at_reads_and_none_is_left_over(engine: LiveEngine) -> None:
    for tenant, count in (("big", 2 * BATCH + 1), ("small", 1)):
        session = engine.join(object(), tenant)
        for number in range(count):
            engine.subscribe(session, f"s{number}", QueryIdentity(tenant, f"q{number}", b"{}", "all"), KEYED)
    reads = []
    while (wanted := engine.next_read()) is not None:
        reads.append((wanted.tenant, len(wanted.wanted)))
    assert reads == [("big", BATCH), ("small", 1), ("big", BATCH), ("big", 1)]


def test_queries_of_one_session_are_read_together(engine: LiveEngine) -> None:
    """Two results from two snapshots might never be true at one position in a storm."""
    mine, others = engine.join(object(), "t"), engine.join(object(), "t")
    one, two = APP, AppPlan((("S2", None),), "one", identified=False)
    engine.subscribe(mine, "one", QueryIdentity("t", "one", b"{}", "all"), one)
    for number in range(2 * BATCH):
        engine.subscribe(others, f"s{number}", QueryIdentity("t", f"q{number}", b"{}", "all"), one)
    engine.subscribe(mine, "two", QueryIdentity("t", "two", b"{}", "all"), two)
    while (wanted := engine.next_read()) is not None:
        engine.landed(wanted.ticket, EVERYTHING, 100, [[Raw(b"1")] for _ in wanted.wanted])
    engine.commit(Commit(200, 200, [Message("t", "S", []), Message("t", "S2", [])]))
    together = []
    while (wanted := engine.next_read()) is not None:
        together.append({"one", "two"} & {each.identity.name for each in wanted.wanted})
    assert {"one", "two"} in together


def test_a_read_that_later_commits_have_emptied_is_done_again(engine: LiveEngine) -> None:
    session = engine.join(object(), "t")
    subscribe(engine, session, "s", KEYED)
    wanted = engine.next_read()
    assert wanted is not None
    asked = wanted.wanted[0].rows
    rows = [row(f"r{number:02}", number) for number in range(asked)]
    gone = [RowChange("a", f"r{number:02}", None, Raw(b"null")) for number in range(asked)]
    engine.commit(Commit(200, 200, [Message("t", "V", [], [ViewChange("view", gone)])]))
    engine.landed(wanted.ticket, NOTHING_NEW, 200, [rows])
    assert told(engine, session) == [], "what stands behind those rows nobody knows"
    read(engine, [row("next", 99)])
    subscribed, _ = told(engine, session)
    assert isinstance(subscribed, Subscribed)
    assert subscribed.rows == [row("next", 99)]


def test_a_heartbeat_is_told_in_shares_and_rides_on_transitions() -> None:
    engine = LiveEngine(1000)
    plan = KeyedPlan("view", "a", 3, (("n", True),))
    quiet, busy = ([engine.join(object(), "t") for _ in range(count)] for count in (40, 3))
    for session in busy:
        engine.subscribe(session, "s", QueryIdentity("t", "q", b"{}", "all"), plan)
    read(engine, [])
    engine.take_outgoing()
    heard: Counter[Session] = Counter()
    for beat in range(2 * SHARES):
        engine.beat(vouched=True)
        outgoing = engine.take_outgoing()
        if beat:
            assert not any(session in one.audience.sessions for one in outgoing for session in busy)
        assert sum(len(one.audience.sessions) for one in outgoing) <= 3, "no beat tells more than its share"
        change = RowChange("a", f"r{beat}", None, row(f"r{beat}", beat))
        engine.commit(Commit(1001 + beat, 10 + beat, [Message("t", "S", [], [ViewChange("view", [change])])]))
        for one in [*outgoing, *engine.take_outgoing()]:
            if any(isinstance(shared.frame, Watermark) for shared in one.frames):
                heard.update(one.audience.sessions)
    assert {heard[session] for session in quiet} == {2}
    assert {heard[session] for session in busy} <= {3, 4}, "with their transitions; one at the first beat too"
    engine.beat(vouched=False)
    for _ in range(2 * SHARES):
        engine.beat(vouched=False)
    assert engine.take_outgoing() == [], "nobody is heard anything while the stream gives no word"


def test_a_tenant_with_slow_reads_leaves_room_for_others() -> None:
    engine = LiveEngine(1000)
    many, one = engine.join(object(), "many"), engine.join(object(), "one")
    for number in range(BATCH * (AT_ONCE + 2)):
        engine.subscribe(many, f"s{number}", QueryIdentity("many", f"q{number}", b"{}", "all"), APP)
    under_way = [engine.next_read() for _ in range(AT_ONCE)]
    assert all(under_way)
    assert engine.next_read() is None
    engine.subscribe(one, "s", QueryIdentity("one", "q", b"{}", "all"), APP)
    theirs = engine.next_read()
    assert theirs is not None
    assert theirs.tenant == "one"
    assert under_way[0] is not None
    engine.postponed(under_way[0].ticket)
    again = engine.next_read()
    assert again is not None
    assert again.tenant == "many"


def test_letting_go_of_one_name_takes_nothing_from_the_other() -> None:
    engine = LiveEngine(1000)
    session = engine.join(object(), "t")
    subscribe(engine, session, "one", KEYED)
    read(engine, [row("a", 1)])
    engine.park(session)
    subscribe(engine, session, "two", KEYED)
    change = RowChange("a", "a", None, row("a", 2))
    engine.commit(Commit(1010, 60, [Message("t", "S", [], [ViewChange("view", [change])])]))
    engine.await_answer(session, 1005)
    engine.unpark(session)
    engine.unsubscribe(session, "two")
    told(engine, session)
    engine.answered(session)
    news = [frame for frame in told(engine, session) if isinstance(frame, Snapshot)]
    assert [bytes(raw) for frame in news for raw in frame.rows] == [bytes(row("a", 2))]
